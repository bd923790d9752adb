"""Tests of the distribution: imports, contents of the wheel, and names of packages."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from tests_support import PACKAGES, REPOSITORY

from sealspace.own_packages import overlapping_distribution


def _modules(package: str) -> list[str]:
    files = sorted((REPOSITORY / package).rglob("*.py"))
    names = [".".join(f.relative_to(REPOSITORY).with_suffix("").parts) for f in files]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_imports_alone(package: str) -> None:
    """Each module of a package can be imported by an interpreter that has imported nothing else.

    In which order modules are imported does not matter: none import each other in a circle
    (`test_layers.py`).
    """
    program = (
        "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", program, *_modules(package)], check=True, cwd=REPOSITORY)


def test_no_init_below_tests() -> None:
    """No folder below tests is a package, because it would hide the product's package of the same
    name."""
    assert [] == list((REPOSITORY / "tests").rglob("__init__.py"))


def test_types_of_all_tests_are_checked() -> None:
    """The type checker knows each folder of tests and tools, and each module that is imported by a
    bare name."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["mypy"]
    places = [REPOSITORY / "tests", REPOSITORY / "tools"]
    paths = [
        (path.parent, path.relative_to(place)) for place in places for path in place.rglob("*.py")
    ]
    folders = {relative.parts[0] for parent, relative in paths if parent not in places}
    assert folders - {"support"} <= {
        name.removeprefix("tests.").removeprefix("tools.") for name in settings["packages"]
    }
    beside = {
        path.stem for place in settings["mypy_path"] for path in (REPOSITORY / place).glob("*.py")
    }
    assert {name for name in beside if not name.startswith(("test_", "conftest"))} == set(
        settings["modules"]
    )


def test_no_other_distribution_owns_our_names() -> None:
    """No other distribution in this environment claims one of the six top-level packages."""
    assert overlapping_distribution() is None


def _console() -> set[str]:
    names = {str(f.relative_to(REPOSITORY)) for f in (REPOSITORY / "node" / "console").rglob("*.*")}
    assert "node/console/index.html" in names
    return names


def test_source_distribution_holds_the_console() -> None:
    """The source distribution contains the console's static files."""
    held = {
        file.distribution_path for file in SdistBuilder(str(REPOSITORY)).recurse_included_files()
    }
    assert _console() <= held


@pytest.mark.slow
def test_wheel_holds_the_six_packages(tmp_path: Path) -> None:
    """The built wheel contains the packages with data and type markers, but no tests and no
    spec."""
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(REPOSITORY),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("sealspace-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (n for n in names if n.endswith("entry_points.txt"))
        scripts = archive.read(entry_points).decode()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert set(PACKAGES) == tops
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    shipped = {
        str(f.relative_to(REPOSITORY)) for p in PACKAGES for f in (REPOSITORY / p).rglob("*.py")
    }
    assert shipped == {name for name in names if name.endswith(".py")}
    assert _console() <= set(names)
    assert "sealspace = sealspace.__main__:main" in scripts
