"""Tests of `sealspace version --verify` with an installed wheel and the files of a release."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from base_install import built_wheel, link_dependencies
from sigstore_authority import SigstoreAuthority
from tests_support import REPOSITORY

from sealspace.cli.root import EXIT_STATUS, main
from sealspace.cli.version import file_records
from sealspace.own_packages import PACKAGES

pytestmark = pytest.mark.slow
TAG = "refs/tags/v1.0.0"
ORIGIN = ("--repository", "github.com/alice/project", "--ref", TAG)
REFUSED = EXIT_STATUS["provenance-invalid"]
EMPTY = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
_WAIT_S = 300


@dataclass(frozen=True)
class Release:
    """A wheel that is installed into an environment of its own, and its bundles.

    Attributes:
        folder: where bundles and the trusted root are.
        site: the environment's folder of packages.
        listed: what the tool lists of the wheel, which the workflow attests beside it.
    """

    folder: Path
    wheel: Path
    python: Path
    site: Path
    authority: SigstoreAuthority
    listed: bytes

    def bundle(self, subject: bytes, ref: str = TAG) -> tuple[str, ...]:
        """Write a bundle about a subject, and return the options that name it."""
        path = self.folder / "bundle.json"
        path.write_bytes(self.authority.bundle(hashlib.sha256(subject).hexdigest(), ref=ref))
        return "--verify", str(path), "--trusted-root", str(self.folder / "root.json")

    def version(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Call the installed command with additional variables; return its status and output.

        The variables are added to the environment.
        """
        command = [str(self.python), "-P", "-m", "sealspace", "version", *arguments]
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={"HOME": str(self.folder), "PATH": os.defpath, **variables},
            timeout=_WAIT_S,
        )
        return ran.returncode, ran.stdout + ran.stderr

    @contextmanager
    def changed(self, name: str, data: bytes | None) -> Iterator[None]:
        """Write or remove an installed file, and restore it afterwards."""
        path = self.site / name
        before = path.read_bytes() if path.exists() else None
        try:
            if data is None:
                path.unlink()
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
            yield
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_bytes(before)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Build the wheel, and install it as `pip install 'sealspace[provenance]'` does."""
    folder = tmp_path_factory.mktemp("release")
    wheel = built_wheel(tmp_path_factory.getbasetemp())
    venv.create(folder / "ENV", with_pip=False, symlinks=True)
    python = folder / "ENV" / "bin" / "python"
    (site,) = (folder / "ENV").glob("lib/python*/site-packages")
    link_dependencies(site, "provenance")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-index", "--no-deps", str(wheel)],
        check=True,
        timeout=_WAIT_S,
        env={**os.environ, "PYTHONPYCACHEPREFIX": ""},
    )
    authority = SigstoreAuthority()
    (folder / "root.json").write_bytes(authority.trusted_root)
    tool = [sys.executable, str(REPOSITORY / "tools" / "wheel_records.py"), str(wheel)]
    listed = subprocess.run(tool, check=True, stdout=subprocess.PIPE, timeout=_WAIT_S).stdout
    return Release(folder, wheel, python, site, authority, listed)


def test_an_installed_release_is_verified(release: Release) -> None:
    """The tool's list of the wheel's files equals the list of the installed files."""
    assert release.listed.count(b"\n") > 500
    options = release.bundle(release.listed)
    status, said = release.version(*options, *ORIGIN)
    assert status == 0, said
    assert f"github.com/alice/project {TAG}" in said
    assert list(release.site.glob("sealspace/**/__pycache__"))  # these do not count
    status, said = release.version("--json", *options, *ORIGIN)
    (found,) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert found["build"]["ref"] == TAG


def test_a_missing_file_is_refused(release: Release) -> None:
    """An installation with a missing file is refused."""
    options = release.bundle(release.listed)
    with release.changed("capabilities/py.typed", None):
        status, said = release.version(*options, *ORIGIN)
    assert status == REFUSED
    assert "other bytes" in said


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("node/console/app.js", b"changed"),
        ("sealspace/\x1b[2J.pyc", b""),
    ],
)
def test_a_changed_installation_is_refused(release: Release, name: str, data: bytes) -> None:
    """The error about a changed or additional file names it."""
    options = release.bundle(release.listed)
    if data == b"changed":
        before = (release.site / name).read_bytes()
        data = before[:-1] + bytes([before[-1] ^ 1])
    with release.changed(name, data):
        status, said = release.version(*options, *ORIGIN)
    assert status == REFUSED, said
    assert name.replace("\x1b", "") in said.replace("\ufffd", "").replace("\\x1b", "")
    assert "\x1b" not in said


@pytest.mark.parametrize(
    "name",
    [
        "spaces/store.py",
        "encryption_network/more.so",
        "tee_backend/.hidden.py",
        "sealspace/not__pycache__.py",
    ],
)
def test_additional_files_are_listed(tmp_path: Path, name: str) -> None:
    """An additional file that Python could import is in the list of installed files."""
    path = tmp_path / name
    path.parent.mkdir()
    path.touch()
    assert file_records(tmp_path).startswith(f"{name},sha256={EMPTY},0\n")


def test_a_linked_folder_is_refused(release: Release) -> None:
    """A linked folder is refused, because Python imports modules from it."""
    options = release.bundle(release.listed)
    elsewhere = release.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "more.py").touch()
    link = release.site / "sealspace" / "linked"
    link.symlink_to(elsewhere)
    try:
        status, said = release.version(*options, *ORIGIN)
    finally:
        link.unlink()
    assert status == REFUSED
    assert "sealspace/linked/more.py" in said


def test_the_files_that_run_are_verified(release: Release) -> None:
    """The command verifies the packages that Python would import, even if others come first on the
    path."""
    options, copy = release.bundle(release.listed), release.folder / "copy"
    for package in PACKAGES:
        shutil.copytree(release.site / package, copy / package)
    changed = copy / "capabilities" / "tokens.py"
    changed.write_bytes(changed.read_bytes() + b"\n")
    status, said = release.version(*options, *ORIGIN, PYTHONPATH=str(copy))
    assert status == REFUSED, said
    assert "capabilities/tokens.py" in said


def test_a_changed_file_and_a_changed_record_are_refused(release: Release) -> None:
    """An installation is refused if a file and the installer's record were both changed."""
    (record,) = release.site.glob("sealspace-*.dist-info/RECORD")
    more = release.site / "sealspace" / "more.py"
    more.touch()
    before = record.read_text("utf-8")
    try:
        record.write_text(f"{before}sealspace/more.py,sha256={EMPTY},0\n", "utf-8")
        status, said = release.version(*release.bundle(release.listed), *ORIGIN)
    finally:
        more.unlink()
        record.write_text(before, "utf-8")
    assert status == REFUSED
    assert "other bytes" in said


def test_files_of_a_release(release: Release) -> None:
    """The command verifies a release's file by its hash, and refuses another file, repository or
    tag."""
    wheel = release.wheel.read_bytes()
    options = release.bundle(wheel)
    assert main(["version", str(release.wheel), *options, *ORIGIN]) == 0
    for file, repository, ref in (
        (str(release.folder / "root.json"), "github.com/alice/project", TAG),
        (str(release.wheel), "github.com/mallory/project", TAG),
        (str(release.wheel), "github.com/alice/project", "refs/heads/main"),
    ):
        asked = ["version", file, *options, "--repository", repository, "--ref", ref]
        assert main(asked) == REFUSED
    assert release.version(*options, *ORIGIN)[0] == REFUSED  # the wheel is not the installed files


def test_an_editable_installation_is_refused(
    release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    """An editable installation is refused, because no list has the files of a checkout."""
    assert main(["version", *release.bundle(b""), *ORIGIN]) == REFUSED
    assert "an installed file is not that of the wheel" in capsys.readouterr().err


def test_options_that_verify_nothing_are_refused(release: Release) -> None:
    """A file or an origin without a bundle is refused, and so is a bundle without an origin."""
    assert main(["version", str(release.wheel)]) == 2
    assert main(["version", *ORIGIN]) == 2
    for origin in ((), ORIGIN[:2], ORIGIN[2:]):
        options = release.bundle(release.wheel.read_bytes())
        assert main(["version", str(release.wheel), *options, *origin]) != 0
