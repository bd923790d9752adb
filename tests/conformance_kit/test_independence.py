"""The kit is a second implementation: it imports nothing of the product."""

import ast
import subprocess
import sys
import time
import tomllib
from email.utils import formatdate

from hatchling.builders.wheel import WheelBuilder
from patience import PATIENCE_S
from sealspace_conformance import minting
from sealspace_conformance.groups import kinds
from sealspace_conformance.run import Run
from sealspace_conformance.transport import Answer, node_at
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
    allowed = {IMPORTED.get(name, name) for name in named} | {"sealspace_conformance"}
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


def test_the_distribution_is_whole() -> None:
    """The wheel has every module, the recorded tokens and quote, and the program of tasks."""
    builder = WheelBuilder(str(KIT))
    held = {file.distribution_path for file in builder.recurse_included_files()}
    package = KIT / "sealspace_conformance"
    files = {str(path.relative_to(KIT)) for path in package.rglob("*.py")}
    names = ("py.typed", "quote.json", "task.wasm", "task.wat", "vectors.json")
    data = {f"sealspace_conformance/{name}" for name in names}
    assert files | data == held


def test_kinds_are_those_of_the_specification() -> None:
    """The kit's table of kinds and routes is that of capabilities §2.8."""
    page = (REPOSITORY / "spec" / "capabilities.md").read_text("utf-8")
    section = page.partition("### 2.8 ")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split("|") for line in section.splitlines() if line[:1] == "|"]
    (_, *routes), _, *rows = [[cell.strip().strip("`") for cell in line] for line in lines]
    assert tuple(routes) == kinds.ROUTES
    assert {kind: dict(zip(routes, cells, strict=True)) for kind, *cells in rows} == kinds.table()


async def test_the_node_s_clock() -> None:
    """Times are by the node's clock, as its `Date` header tells; small differences and a
    malformed header are ignored."""
    async with node_at("http://127.0.0.1") as node:
        for date, skew_s in (
            (formatdate(time.time() + 3600, usegmt=True), 3600),
            (formatdate(time.time(), usegmt=True), 0),
            ("yesterday", 0),
            ("", 0),
        ):
            run = Run(node)
            run.set_clock(Answer(200, {"date": date}))
            before_s = time.time()
            shown_s = run.now()
            after_s = time.time()
            # `Date` has whole seconds, and some pass until it is read
            assert before_s + skew_s - PATIENCE_S < shown_s <= after_s + skew_s


def test_vectors_are_made_by_the_kit() -> None:
    """The recorded tokens are those that the kit makes of its fixed keys."""
    assert minting.FILE.read_text("utf-8") == minting.document()
