"""Write the type stubs of `sealspace.sync`, or check that they are current.

    python tools/sync_stubs.py --write | --check

The synchronous classes are derived when they are imported, so type checkers read these `.pyi` files
instead. The stubs are made from the source of the asynchronous classes; `stubtest` compares them
with the imported classes. The names of `sealspace`, which are imported on first use, have a stub
too.
"""

import ast
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "sealspace"
HEAD = (
    "# Generated from the asynchronous classes by tools/sync_stubs.py; write it anew with `make"
    " pages`.\n"
)
sys.path.insert(0, str(ROOT))

from sealspace.sync._bridged import COUNTERPARTS  # noqa: E402  # after the path is set

# The stubs written here leave out private names.
sealspace: Any = import_module("sealspace")
sync: Any = import_module("sealspace.sync")
client: Any = import_module("sealspace.sync.client")
services: Any = import_module("sealspace.sync.services")


class Stub:
    """The text of a stub file."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.imports: set[tuple[str, str]] = set()
        self.parts: list[str] = []

    def text(self) -> str:
        """Return the formatted text."""
        lines = [
            (
                f"from {place} import {name} as {name}"
                if self.module in ("sealspace", "sealspace.sync")
                else f"from {place} import {name}"
            )
            for place, name in sorted(self.imports)
            if place != self.module
        ]
        raw = HEAD + "\n".join(lines) + "\n\n" + "\n\n".join(self.parts) + "\n"
        of_file = ("--quiet", "--stdin-filename", str(FOLDER / "stub.pyi"), "-")
        for command in (["check", "--select", "I,RUF022", "--fix"], ["format"]):
            ran = subprocess.run(
                [sys.executable, "-m", "ruff", *command, *of_file],
                input=raw, capture_output=True, text=True, check=True, cwd=ROOT,
            )  # fmt: skip
            raw = ran.stdout
        return raw

    def function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, source: Any, documented: Any
    ) -> str:
        """Return the stub of a function: its signature with awaited results, and its docstring."""
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = _unquoted(argument.annotation)
        returns = _unquoted(node.returns)
        if isinstance(returns, ast.Subscript) and ast.unparse(returns.value) == "AsyncIterator":
            returns = ast.Subscript(ast.Name("Iterator"), returns.slice)
            self.imports.add(("collections.abc", "Iterator"))
        node.args.defaults = [_default(one) for one in node.args.defaults]
        node.args.kw_defaults = [one and _default(one) for one in node.args.kw_defaults]
        for annotation in (
            returns,
            *(one.annotation for one in ast.walk(node.args) if isinstance(one, ast.arg)),
        ):
            self._import_names(annotation, source)
        doc = None if documented is None else inspect.getdoc(documented)
        body: list[ast.stmt] = [ast.Expr(ast.Constant(...))]
        kept = ("property", "classmethod")
        decorators = [one for one in node.decorator_list if ast.unparse(one) in kept]
        made = ast.FunctionDef(node.name, node.args, body, decorators, returns, None)
        text = ast.unparse(ast.fix_missing_locations(made)).removesuffix("\n    ...")
        if doc is None:
            return text + " ..."
        return (
            text
            + "\n"
            + textwrap.indent(f'"""{doc}\n"""' if "\n" in doc else f'"""{doc}"""', "    ")
        )

    def service(self, cls: Any) -> None:
        """Add the stub of a synchronous class."""
        model = next(one for one, found in COUNTERPARTS.items() if found is cls)
        source = inspect.getmodule(model)
        own = {node.name: node for node in _members(cls)}
        members = [
            self.function(own[name], inspect.getmodule(cls), None)
            for name in ("__enter__", "__exit__")
            if name in own
        ]
        for node in _members(model):
            if node.name == "__init__" and "__init__" in own:
                members.insert(0, self.function(node, source, None))
            elif not node.name.startswith("_") and node.name in vars(cls):
                members.append(self.function(node, source, vars(cls)[node.name]))
        doc = inspect.getdoc(cls) or ""
        quoted = f'"""{doc}\n"""' if "\n" in doc else f'"""{doc}"""'
        self.parts.append(
            f"class {cls.__name__}:\n" + textwrap.indent("\n\n".join([quoted, *members]), "    ")
        )

    def _import_names(self, annotation: ast.expr | None, source: Any) -> None:
        places = _imports(source)
        for one in ast.walk(annotation) if annotation is not None else ():
            if not isinstance(one, ast.Name):
                continue
            place = places.get(one.id, source.__name__)
            found = getattr(import_module(place), one.id, None)
            if found is None:
                continue  # a builtin, or the name of a module
            if found in COUNTERPARTS.values() or found in COUNTERPARTS:
                place = f"sealspace.sync.{sync._OWN[one.id]}"
            self.imports.add((place, one.id))


def _unquoted(annotation: ast.expr | None) -> ast.expr | None:
    """Return an annotation without the quotes of a name that is imported on first use."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation


def _default(node: ast.expr) -> ast.expr:
    return node if isinstance(node, ast.Constant) else ast.Constant(...)


def _members(cls: Any) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@cache
def _imports(module: Any) -> dict[str, str]:
    """Return, for each imported name of a module, the absolute module that it comes from."""
    found = {}
    statements = ast.parse(inspect.getsource(module)).body
    for_types = [one for one in statements if isinstance(one, ast.If)]  # `if TYPE_CHECKING:`
    for node in [*statements, *(inner for one in for_types for inner in one.body)]:
        if isinstance(node, ast.ImportFrom):
            package = module.__name__.split(".")[: -node.level] if node.level else []
            place = ".".join([*package, *([node.module] if node.module else [])])
            found.update({one.asname or one.name: place for one in node.names})
    return found


def client_stub() -> str:
    """Return the stub of the client."""
    stub = Stub("sealspace.sync.client")
    stub.service(client.Client)
    return stub.text()


def services_stub() -> str:
    """Return the stub of the services."""
    stub = Stub("sealspace.sync.services")
    for name in ("fetch_evidence", "deliver"):
        function = getattr(services, name)
        source = import_module(function.__module__)
        (node,) = ast.parse(inspect.getsource(function.__wrapped__)).body
        assert isinstance(node, ast.AsyncFunctionDef)
        stub.parts.append(stub.function(node, source, function))
    for cls in COUNTERPARTS.values():
        if cls is not client.Client:
            stub.service(cls)
    return stub.text()


def package_stub(package: Any, own: Mapping[str, str]) -> str:
    """Return the stub of a package that imports its names on first use."""
    stub = Stub(package.__name__)
    for name in package.__all__:
        if name in own:
            stub.imports.add((f"{package.__name__}.{own[name]}", name))
        elif name != "__version__":
            stub.imports.add((f"sealspace.{sealspace._PLACES[name]}", name))
    stub.parts.append("__version__: str\n__all__ = " + repr(list(package.__all__)))
    return stub.text()


def main() -> int:
    """Write the stubs, or print those that are out of date."""
    if sys.argv[1:] not in (["--write"], ["--check"]):
        sys.exit("usage: python tools/sync_stubs.py --write | --check")
    stale = 0
    stubs = {
        "__init__.pyi": package_stub(sealspace, sealspace._PLACES),
        "sync/__init__.pyi": package_stub(sync, sync._OWN),
        "sync/client.pyi": client_stub(),
        "sync/services.pyi": services_stub(),
    }
    for path, text in stubs.items():
        file = FOLDER / path
        if file.exists() and file.read_text("utf-8") == text:
            continue
        if sys.argv[1] == "--write":
            file.write_text(text, "utf-8")
        else:
            print(f"sealspace/{path} is out of date; run: make pages", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
