"""The kit is a second implementation: it imports nothing of the product."""

import ast
import subprocess
import sys
import tomllib

from sealspace_conformance import minting
from tests_support import PACKAGES, REPOSITORY

KIT = REPOSITORY / "tools" / "conformance"
PROJECT = tomllib.loads((KIT / "pyproject.toml").read_text("utf-8"))["project"]
# The name by which a distribution is imported, where it differs.
IMPORTED = {"safe-pysha3": "sha3"}


def _imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module).split(".")[0])
    return found


def test_imports() -> None:
    """Each module imports the standard library, the kit, and what its project names."""
    named = {text.split(">")[0] for text in PROJECT["dependencies"]}
    allowed = {IMPORTED.get(name, name) for name in named} | {"sealspace_conformance", "yarl"}
    files = sorted((KIT / "sealspace_conformance").rglob("*.py"))
    assert len(files) > 20
    for path in files:
        foreign = _imported(path.read_text("utf-8")) - set(sys.stdlib_module_names)
        assert foreign <= allowed, path.name


def test_what_is_loaded() -> None:
    """A process that imported all of the kit has loaded no module of the product."""
    program = (
        "import pkgutil, importlib, sys, sealspace_conformance as kit\n"
        "for one in pkgutil.walk_packages(kit.__path__, kit.__name__ + '.'):\n"
        "    if not one.name.endswith('__main__'): importlib.import_module(one.name)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(KIT)},
    )
    loaded = set(done.stdout.split())
    assert "sealspace_conformance" in loaded
    assert loaded & set(PACKAGES) == set()


def test_dependencies_are_locked() -> None:
    """The kit needs nothing that the project does not have."""
    lock = (REPOSITORY / "requirements.lock").read_text("utf-8").lower().replace("_", "-")
    for text in PROJECT["dependencies"]:
        assert f"\n{text.split('>')[0].lower().replace('_', '-')}==" in f"\n{lock}"


def test_vectors_are_made_by_the_kit() -> None:
    """The recorded tokens are those that the kit makes of its fixed keys."""
    assert minting.FILE.read_text("utf-8") == minting.document()
