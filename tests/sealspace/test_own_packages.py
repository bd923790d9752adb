"""Foreign packages with one of our six names are reported on their first import."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S
from tests_support import PACKAGES as TESTED
from tests_support import REPOSITORY

from sealspace.__main__ import main
from sealspace.cli.exit_status import EXIT_STATUS
from sealspace.own_packages import NEEDED, PACKAGES, hidden_by, overlapping_distribution

FOREIGN = EXIT_STATUS["foreign-distribution"]


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder at the head of the import path, in a process that has not imported our packages
    yet."""
    loaded = {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in PACKAGES
    }
    folder = tmp_path / "first"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    for name in loaded:
        del sys.modules[name]
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    sys.modules.update(loaded)


def _module(folder: Path, name: str) -> Path:
    (folder / f"{name}.py").write_text("raise SystemExit('imported')\n")
    return folder / f"{name}.py"


def _package(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise SystemExit('imported')\n")
    return folder / name


def test_the_six_names() -> None:
    """The six names are the packages of the distribution, and nothing hides them here."""
    assert sorted(TESTED) == sorted(PACKAGES)
    assert hidden_by(*PACKAGES) is None


@pytest.mark.parametrize("name", PACKAGES)
def test_a_module_or_a_package_hides_ours(first: Path, name: str) -> None:
    """A module that hides ours is named by its path and not imported. A folder without code hides
    nothing, because Python skips it."""
    (first / name).mkdir()
    assert hidden_by(name) is None
    (first / name).rmdir()
    for made in (_module, _package):
        culprit = made(first, name)
        sys.path_importer_cache.clear()
        clash = hidden_by(*PACKAGES)
        assert clash is not None
        assert clash.text == f"{culprit} hides sealspace's own package {name}"
        assert clash.hint == f"rename it, or keep {first} off the import path"


def test_one_that_is_installed(
    tmp_path: Path, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a clash with an installed package, the hint is a separate environment."""
    site = tmp_path / "site-packages"
    site.mkdir()
    _package(site, "spaces")
    monkeypatch.syspath_prepend(site)
    clash = hidden_by("spaces")
    assert clash is not None and clash.hint.startswith("install sealspace into its own environment")


def test_another_path_to_our_folder(first: Path) -> None:
    """Our own folder under another path is recognised."""
    for name in PACKAGES:
        (first / name).symlink_to(REPOSITORY / name)
    assert hidden_by(*PACKAGES) is None


@pytest.mark.parametrize(
    ("file", "entry"),
    [("RECORD", "{}/__init__.py,,"), ("RECORD", "{}.py,,"), ("top_level.txt", "{}")],
)
@pytest.mark.parametrize("name", PACKAGES)
def test_a_distribution_with_one_of_our_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, entry: str
) -> None:
    """A distribution with one of our package names is reported, but never our own one, in any
    letter case."""
    monkeypatch.syspath_prepend(tmp_path)
    about = tmp_path / "any-1.dist-info"
    about.mkdir()
    others = [entry.format(other) for other in (f"{name}s", f"my_{name}", f"my/{name}")]
    (about / file).write_text("\n".join(others))
    assert overlapping_distribution() is None
    (about / file).write_text("\n".join([*others, entry.format(name)]))
    (about / "METADATA").write_text("Name: Sealspace\n")
    assert overlapping_distribution() is None
    (about / "METADATA").write_text("Name: culprit\n")
    clash = overlapping_distribution()
    assert (
        clash is not None
        and f"the distribution culprit also installs a package named {name}" in clash.text
    )


@pytest.mark.parametrize("name", NEEDED)
def test_the_sdk_says_so(first: Path, name: str) -> None:
    """`import sealspace` fails with one sentence that has the path."""
    culprit = _module(first, name)
    with pytest.raises(ImportError, match="hides") as refused:
        __import__("sealspace.sync")
    assert (
        str(refused.value) == f"{culprit} hides sealspace's own package {name}: rename it, or keep"
        f" {first} off the import path"
    )


def test_the_sdk_needs_neither_the_node_nor_its_storage(first: Path) -> None:
    """The SDK works beside a user's own package `spaces` or `node`."""
    for name in ("node", "spaces", "tee_backend"):
        _package(first, name)
    assert __import__("sealspace.sync").__name__ == "sealspace"


@pytest.mark.parametrize("name", ["node", "door", "tee_backend", "serving", *NEEDED])
def test_the_command_line_says_so(
    first: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The command line fails with two lines and a status, before it imports anything else."""
    culprit = _module(first, name)
    assert main() == FOREIGN
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"sealspace: {culprit} hides sealspace's own package {name}",
        f"next: rename it, or keep {first} off the import path",
    ]


def test_an_import_that_fails_for_another_reason_is_not_explained_away(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If nothing hides our names, the original error is raised."""
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(ModuleNotFoundError, match="click"):
        main()


def _run(*command: str, folder: Path, path: str = "") -> tuple[int, list[str]]:
    environment = {**os.environ, "PYTHONPATH": path}
    ran = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.stdout == ""
    return ran.returncode, ran.stderr.splitlines()


def test_processes_say_so(tmp_path: Path) -> None:
    """The installed program and `python -m node` report a foreign package of our name alike."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"sealspace": "sealspace.__main__:main"}
    script = tmp_path / "bin" / "sealspace"  # as installers write it
    script.parent.mkdir()
    script.write_text("import sys\nfrom sealspace.__main__ import main\nsys.exit(main())\n")
    for name in ("capabilities", "spaces"):
        folder = tmp_path / name
        folder.mkdir()
        culprit = _package(folder, name)
        said = [
            f"sealspace: {culprit} hides sealspace's own package {name}",
            f"next: rename it, or keep {folder} off the import path",
        ]
        serve = ("serve", "--data", str(tmp_path / "data"), "--port", "0")
        shadowed = os.pathsep.join((str(folder), str(REPOSITORY)))
        (folder / name / "__init__.py").write_text("")
        assert _run(sys.executable, str(script), *serve, folder=tmp_path, path=shadowed) == (
            FOREIGN,
            said,
        )
        assert _run(sys.executable, "-m", "node", *serve, folder=folder, path=str(REPOSITORY)) == (
            FOREIGN,
            said,
        )
    assert not (tmp_path / "data").exists()


def test_the_package_runs_as_the_program(tmp_path: Path) -> None:
    """`python -m sealspace` runs the command line, and refuses an unknown command."""
    status, said = _run(
        sys.executable, "-m", "sealspace", "nonsense", folder=tmp_path, path=str(REPOSITORY)
    )
    assert status == 2
    assert "nonsense" in " ".join(said)
