"""Measure the structure of the product: weight, modules, imports, errors and names.

    python tools/structure.py            print every figure
    python tools/structure.py --check    fail if a package has too many entries or pairs

Definitions:
    token: a Python token of the packages, except layout, comments and docstrings. Line width
        and documentation do not change the count.
    module: a `.py` file of the packages.
    folder: a directory below a package. The entries of a package are the modules and folders
        directly in it.
    import pair: two entries of one package such that a module of the first imports a module of the
        second. Imports inside functions and for type checking count.
    one-importer module: a module that exactly one other module of the product imports.
    name that exists twice: a public class name that two or more modules define.
"""

import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Each package imports those after it, except that only `node` imports `spaces`, and that `node` and
# `runner` do not know each other.
PACKAGES = (
    "node",
    "runner",
    "door",
    "tee_backend",
    "sealspace",
    "encryption_network",
    "spaces",
    "serving",
    "capabilities",
)

# Limits on the entries and import pairs of a package.
ROOTS = {"node": (20, 65), "sealspace": (23, 110)}

_LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


def path_of(module: str) -> Path:
    """Return the file of a module."""
    base = ROOT.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def read_modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(
                path.read_bytes(), str(path)
            )
    return found


@cache
def nodes_of(tree: ast.Module) -> list[ast.AST]:
    """Return all nodes of a tree."""
    return list(ast.walk(tree))


def count_tokens(module: str, tree: ast.Module) -> int:
    """Return the number of tokens in a module, without layout, comments and docstrings."""
    docstrings = {
        (statement.lineno, statement.col_offset)
        for holder in nodes_of(tree)
        if isinstance(body := getattr(holder, "body", None), list)
        for statement in body
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    }
    source = io.StringIO(path_of(module).read_text(encoding="utf-8"))
    return sum(
        token.type not in _LAYOUT
        and not (token.type == tokenize.STRING and token.start in docstrings)
        for token in tokenize.generate_tokens(source.readline)
    )


def imported_by(module: str, tree: ast.Module, modules: dict[str, ast.Module]) -> set[str]:
    """Return the product's modules that a module imports anywhere."""
    package = module if path_of(module).name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in nodes_of(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found |= {
                whole if (whole := f"{base}.{alias.name}") in modules else base
                for alias in node.names
            }
    return (found & modules.keys()) - {module}


def pairs_of(package: str, imports: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return the import pairs of a package."""
    inside = f"{package}."
    pairs = {
        (above.split(".")[1], below.split(".")[1])
        for above, found in imports.items()
        for below in found
        if above.startswith(inside) and below.startswith(inside)
    }
    return {(above, below) for above, below in pairs if above != below}


def upwards(imports: dict[str, set[str]]) -> list[str]:
    """Return the imports of packages above the importing one."""
    found = []
    for above, below in ((above, below) for above, many in imports.items() for below in many):
        a, b = above.split(".")[0], below.split(".")[0]
        is_storage = b == "spaces" and a not in {"node", "spaces"}
        if (
            is_storage
            or PACKAGES.index(b) < PACKAGES.index(a)
            or {a, b} == {"encryption_network", "spaces"}
        ):
            found.append(f"{above} -> {below}")
    return found


def exceptions_of(modules: dict[str, ast.Module]) -> int:
    """Return the number of classes derived from `Exception`, found by the names of their bases."""
    classes = [
        (
            node.name,
            {
                base.id if isinstance(base, ast.Name) else getattr(base, "attr", "")
                for base in node.bases
            },
        )
        for tree in modules.values()
        for node in nodes_of(tree)
        if isinstance(node, ast.ClassDef)
    ]
    errors = {
        "Exception",
        "BaseException",
        "ValueError",
        "RuntimeError",
        "OSError",
        "ClickException",
        "UsageError",
    }
    while more := {name for name, bases in classes if bases & errors} - errors:
        errors |= more
    return sum(bool(bases & errors) for _, bases in classes)


def main() -> int:
    """Print the figures; with `--check`, return 1 if a package has too many entries or pairs, or an
    import leads upwards."""
    modules = read_modules()
    imports = {name: imported_by(name, tree, modules) for name, tree in modules.items()}
    tokens: Counter[str] = Counter()
    names: defaultdict[str, set[str]] = defaultdict(set)
    for name, tree in modules.items():
        tokens[name.split(".")[0]] += count_tokens(name, tree)
        for node in nodes_of(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names[node.name].add(name)
    over = []
    for package in PACKAGES:
        entries = len({name.split(".")[1] for name in modules if name.startswith(package + ".")})
        pairs = len(pairs_of(package, imports))
        most_entries, most_pairs = ROOTS.get(package, (entries, pairs))
        if entries > most_entries or pairs > most_pairs:
            over.append(
                f"{package} has {entries} entries and {pairs} pairs, and may have {most_entries}"
                f" and {most_pairs}"
            )
        print(f"{tokens[package]:9,}  tokens  {entries:3} entries {pairs:4} pairs  {package}")
    print(f"{tokens.total():9,}  tokens in all")
    importers = Counter(below for found in imports.values() for below in found)
    print(f"{len(modules):9,}  modules")
    lone = sum(n == 1 and path_of(name).name != "__init__.py" for name, n in importers.items())
    print(f"{lone:9,}  one-importer modules")
    print(f"{exceptions_of(modules):9,}  exception classes")
    print(f"{sum(len(where) > 1 for where in names.values()):9,}  names that exist twice")
    leading_upwards = upwards(imports)
    print(f"{len(leading_upwards):9,}  imports upwards", *leading_upwards, sep="\n" + " " * 11)
    if "--check" in sys.argv and (over or leading_upwards):
        print("refused:", "; ".join(over) or "imports upwards", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
