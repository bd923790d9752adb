"""Find the places in the code that are hard to read, and count them by rule and package.

    python tests/house/reading.py                    print the counts and every place
    python tests/house/reading.py split-names node   print those of some rules and packages
    python tests/house/reading.py --check            fail if there is a place

The rules are in `RULES`. A place that has to stay is listed in `EXCEPTIONS`.
"""

import ast
import gc
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from complexipy import code_complexity

REPOSITORY = Path(__file__).resolve().parents[2]
THIS = Path(__file__).resolve().relative_to(REPOSITORY)
PACKAGES = (
    "capabilities",
    "door",
    "encryption_network",
    "node",
    "runner",
    "sealspace",
    "serving",
    "spaces",
    "tee_backend",
)

RULES = {
    "complexity": "a function has a cognitive complexity above 15",
    "nested-conditional": "a conditional expression is inside another one",
    "conditional-element": "the element of a comprehension is a conditional expression",
    "expression-statement": "a conditional or boolean expression is used as a statement",
    "boolean-number": "a boolean is used as an index, a slice bound or a number",
    "two-assignments": "an expression contains more than one `:=`",
    "three-loops": "a comprehension has more than two `for`",
    "record-arguments": "a record is constructed with `*`, `**` or three positional arguments",
    "split-names": "names are split from one string",
}

MOST_COMPLEXITY = 15
MOST_POSITIONAL = 2

MOST_EXCEPTIONS = 10
EXCEPTIONS: dict[tuple[str, str, str], str] = {}
"""The reason for each exception, on one line, by file, qualified name and rule.

    ("node/logs.py", "Log.write", "complexity"): "the format has one case for each level",
"""

_NAMED_TUPLE = "typing.NamedTuple"
_STRUCT = "msgspec.Struct"
_DATACLASS = "dataclasses.dataclass"
_DATACLASS_TRANSFORM = "typing.dataclass_transform"
_ATTRS_DECORATORS = {"attrs.define", "attrs.frozen", "attr.s", "attr.define", "attr.frozen"}

_ARITHMETIC = (
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.Mod,
    ast.Pow,
    ast.LShift,
    ast.RShift,
)
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_RETURN_BOOLEANS = {"all", "any", "bool", "callable", "hasattr", "isinstance", "issubclass"}
_BOOLEAN_METHODS = {"endswith", "isascii", "isdigit", "isdisjoint", "issubset", "startswith"}
_BOOLEAN_PREFIXES = ("is_", "has_")

_SPLITS = {"split", "rsplit", "splitlines"}
_EDITS = {"lower", "removeprefix", "removesuffix", "replace", "strip", "upper"}

_FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Place(NamedTuple):
    """A place that breaks a rule."""

    file: str
    line: int
    rule: str

    @property
    def package(self) -> str:
        """The top-level folder of the place."""
        return self.file.split("/")[0]


class Module:
    """The syntax tree of a module, and what its names refer to."""

    def __init__(self, file: str, source: str) -> None:
        self.file = file
        self.source = source
        self.tree = ast.parse(source, file)
        self.all_nodes = list(ast.walk(self.tree))
        parts = file.removesuffix(".py").split("/")
        if parts[-1] == "__init__":
            self.name = ".".join(parts[:-1])
            self.folder = self.name
        else:
            self.name = ".".join(parts)
            self.folder = ".".join(parts[:-1])

    @cached_property
    def imports(self) -> dict[str, str]:
        """Return the full name of what each imported name refers to."""
        found = {}
        for node in self.all_nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        found[alias.asname] = alias.name
                    else:
                        top = alias.name.split(".")[0]
                        found[top] = top
            elif isinstance(node, ast.ImportFrom):
                base = self._base_of(node)
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{base}.{alias.name}"
        return found

    def _base_of(self, node: ast.ImportFrom) -> str:
        """Return the full name of the module that an import names after `from`."""
        if node.level == 0:
            return node.module or ""
        folders = self.folder.split(".")
        above = folders[: len(folders) - node.level + 1]
        if node.module:
            above.append(node.module)
        return ".".join(above)

    def full_name(self, expression: ast.expr) -> str:
        """Return the full name behind a name such as `Record` or `module.Record`, or "" for
        others."""
        if isinstance(expression, ast.Name):
            return self.imports.get(expression.id, f"{self.name}.{expression.id}")
        if isinstance(expression, ast.Attribute):
            owner = self.full_name(expression.value)
            return f"{owner}.{expression.attr}" if owner else ""
        if isinstance(expression, ast.Subscript):
            return self.full_name(expression.value)  # `Record[int]`
        return ""

    def definition_at(self, line: int) -> str:
        """Return the qualified name of the function or class at a line, or "" outside of all."""
        around = [
            node
            for node in self.all_nodes
            if isinstance(node, _DEFINITIONS)
            and node.lineno <= line
            and line <= (node.end_lineno or node.lineno)
        ]
        return ".".join(node.name for node in around)


class Product(NamedTuple):
    """The facts about other modules that the rules need, by full names."""

    records: set[str]
    splitters: dict[str, tuple[int, str]]
    """The functions that split a parameter, with the parameter's position and name."""


def read_modules(folder: str) -> list[Module]:
    """Return the modules below a folder of the repository."""
    return [
        Module(path.relative_to(REPOSITORY).as_posix(), path.read_text("utf-8"))
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    ]


def study(modules: list[Module]) -> Product:
    """Return the facts about the product's modules that the rules need."""
    splitters: dict[str, tuple[int, str]] = {}
    for module in modules:
        splitters.update(_splitters_of(module))
    return Product(records=_records_of(modules), splitters=splitters)


# Records


def _records_of(modules: list[Module]) -> set[str]:
    """Return the full names of all record classes, with the classes derived from them."""
    decorators = _own_decorators(modules)
    records = set[str]()
    bases_by_class = dict[str, list[str]]()
    for module in modules:
        for node in module.all_nodes:
            if not isinstance(node, ast.ClassDef):
                continue
            name = f"{module.name}.{node.name}"
            if any(_makes_record(module, one, decorators) for one in node.decorator_list):
                records.add(name)
            elif not _has_constructor(node):
                bases_by_class[name] = [module.full_name(base) for base in node.bases]
    bases_of_records = {_NAMED_TUPLE, _STRUCT}
    while True:
        derived = {
            name
            for name, bases in bases_by_class.items()
            if name not in records and not (records | bases_of_records).isdisjoint(bases)
        }
        if not derived:
            return records
        records |= derived


def _own_decorators(modules: list[Module]) -> set[str]:
    """Return the functions that are declared to make a class a frozen dataclass."""
    found = set()
    for module in modules:
        for node in module.all_nodes:
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    if (
                        isinstance(decorator, ast.Call)
                        and module.full_name(decorator.func) == _DATACLASS_TRANSFORM
                    ):
                        found.add(f"{module.name}.{node.name}")
    return found


def _makes_record(module: Module, decorator: ast.expr, own_decorators: set[str]) -> bool:
    """Return whether a decorator makes a class a record."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = module.full_name(called)
    if name in own_decorators or name in _ATTRS_DECORATORS:
        return True
    if name != _DATACLASS or not isinstance(decorator, ast.Call):
        return False
    return any(
        option.arg in {"frozen", "slots"}
        and isinstance(option.value, ast.Constant)
        and option.value.value is True
        for option in decorator.keywords
    )


def _has_constructor(node: ast.ClassDef) -> bool:
    return any(
        isinstance(member, ast.FunctionDef) and member.name in {"__init__", "__new__"}
        for member in node.body
    )


def _record_arguments(module: Module, product: Product) -> Iterator[ast.expr]:
    """Yield the calls that construct a record with unnamed fields."""
    for node in module.all_nodes:
        if (
            isinstance(node, ast.Call)
            and module.full_name(node.func) in product.records
            and _hides_fields(node)
        ):
            yield node
        if isinstance(node, ast.ClassDef) and f"{module.name}.{node.name}" in product.records:
            for method in node.body:
                if isinstance(method, _FunctionNode):
                    yield from _own_constructions(method)


def _own_constructions(method: _FunctionNode) -> Iterator[ast.expr]:
    """Yield the calls of `cls` and `type(self)` with unnamed fields."""
    for node in ast.walk(method):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in {"cls", "type(self)"}
            and _hides_fields(node)
        ):
            yield node


def _hides_fields(call: ast.Call) -> bool:
    return (
        len(call.args) > MOST_POSITIONAL
        or any(isinstance(argument, ast.Starred) for argument in call.args)
        or any(keyword.arg is None for keyword in call.keywords)
    )


# Conditional expressions, statements, assignments and loops


def _complex_functions(module: Module) -> Iterator[int]:
    """Yield the lines of functions that are too complex."""
    measured = code_complexity(module.source, no_ignore=True, with_plans=False)
    for function in measured.functions:
        if function.complexity > MOST_COMPLEXITY:
            yield function.line_start


def _nested_conditionals(module: Module) -> set[ast.expr]:
    """Return the conditional expressions that are inside another one."""
    return {
        inner
        for outer in module.all_nodes
        if isinstance(outer, ast.IfExp)
        for inner in ast.walk(outer)
        if isinstance(inner, ast.IfExp) and inner is not outer
    }


def _conditional_elements(module: Module) -> Iterator[ast.expr]:
    """Yield the comprehensions with a conditional expression as element, key or value."""
    for node in module.all_nodes:
        if isinstance(node, ast.DictComp):
            elements = [node.key, node.value]
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
            elements = [node.elt]
        else:
            continue
        if any(isinstance(element, ast.IfExp) for element in elements):
            yield node


def _expression_statements(module: Module) -> Iterator[ast.expr]:
    """Yield the statements that consist of a conditional or boolean expression."""
    for node in module.all_nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.IfExp | ast.BoolOp):
            yield node.value


def _two_assignments(module: Module) -> Iterator[ast.expr]:
    """Yield the expressions of statements that contain more than one `:=`."""
    if module.source.count(":=") < 2:
        return
    for node in module.all_nodes:
        if isinstance(node, ast.stmt | ast.withitem | ast.match_case | ast.ExceptHandler):
            for expression in ast.iter_child_nodes(node):
                if isinstance(expression, ast.expr):
                    assigned = [
                        one for one in ast.walk(expression) if isinstance(one, ast.NamedExpr)
                    ]
                    if len(assigned) > 1:
                        yield expression


def _three_loops(module: Module) -> Iterator[ast.expr]:
    """Yield the comprehensions with more than two `for`."""
    for node in module.all_nodes:
        if isinstance(node, _COMPREHENSIONS) and len(node.generators) > 2:
            yield node


# Booleans


def _boolean_numbers(module: Module) -> Iterator[ast.expr]:
    """Yield the booleans that are used as an index, a slice bound or a number."""
    for node in module.all_nodes:
        for operand in _numbers_of(node):
            if _is_boolean(operand):
                yield operand


def _numbers_of(node: ast.AST) -> list[ast.expr]:
    """Return the operands of a node that should be numbers, or keys of a mapping."""
    match node:
        case ast.Subscript(value=ast.Name(id="Literal")):
            return []
        case ast.Subscript(slice=ast.Slice(lower=lower, upper=upper, step=step)):
            return [bound for bound in (lower, upper, step) if bound is not None]
        case ast.Subscript(slice=index):
            return [index]
        case ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod()):
            return []
        case ast.BinOp(left=left, op=operator, right=right) if isinstance(operator, _ARITHMETIC):
            return [left, right]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Invert(), operand=operand):
            return [operand]
        case ast.AugAssign(op=operator, value=value) if isinstance(operator, _ARITHMETIC):
            return [value]
        case ast.Compare(left=left, ops=operators, comparators=others):
            if any(isinstance(operator, _ORDER) for operator in operators):
                return [left, *others]
    return []


def _is_boolean(expression: ast.expr) -> bool:
    """Return whether an expression is a boolean, judged by its syntax and names."""
    match expression:
        case ast.Compare() | ast.UnaryOp(op=ast.Not()) | ast.Constant(value=bool()):
            return True
        case ast.BoolOp(values=values):
            return all(_is_boolean(value) for value in values)
        case ast.Call(func=ast.Name(id=name)) if name in _RETURN_BOOLEANS:
            return True
        case ast.Call(func=ast.Attribute(attr=name)) if name in _BOOLEAN_METHODS:
            return True
        case ast.Call(func=called):
            return _is_boolean(called)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.startswith(_BOOLEAN_PREFIXES)
    return False


# Names in one string


def _split_names(module: Module, product: Product) -> Iterator[ast.expr]:
    """Yield the calls that split a string written in the code, directly or by a function."""
    texts = _texts_of(module)
    for node in module.all_nodes:
        if isinstance(node, ast.Call):
            split = _split_by(node)
            if split is None:
                split = _argument_to_split(module, node, product)
            if split is not None and _is_text(split, texts):
                yield node
        elif isinstance(node, _COMPREHENSIONS):
            for loop in node.generators:
                yield from _splits_in_loop(loop.target, loop.iter, within=node)
        elif isinstance(node, ast.For):
            yield from _splits_in_loop(node.target, node.iter, within=node)


def _texts_of(module: Module) -> set[str]:
    """Return the names of a module's string constants."""
    texts = set[str]()
    for statement in module.tree.body:
        if isinstance(statement, ast.Assign) and _is_text(statement.value, texts):
            texts |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
    return texts


def _is_text(expression: ast.expr, texts: set[str]) -> bool:
    """Return whether an expression is a string literal."""
    match expression:
        case ast.Constant(value=value):
            return isinstance(value, str)
        case ast.Name(id=name):
            return name in texts
        case ast.FormattedValue(value=value):
            return _is_text(value, texts)
        case ast.JoinedStr(values=parts):
            return all(_is_text(part, texts) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _is_text(left, texts) and _is_text(right, texts)
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in _EDITS:
            return _is_text(value, texts)
    return False


def _split_by(call: ast.Call) -> ast.expr | None:
    """Return the string that a call splits, or None for other calls."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in _SPLITS:
        return call.func.value
    return None


def _splitters_of(module: Module) -> dict[str, tuple[int, str]]:
    """Return the functions that split a parameter, with the parameter's position and name."""
    found = {}
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args]
            for call in ast.walk(node):
                split = _split_by(call) if isinstance(call, ast.Call) else None
                if isinstance(split, ast.Name) and split.id in names:
                    found[f"{module.name}.{node.name}"] = names.index(split.id), split.id
    return found


def _argument_to_split(module: Module, call: ast.Call, product: Product) -> ast.expr | None:
    """Return the argument that the called function splits, or None."""
    splitter = product.splitters.get(module.full_name(call.func))
    if splitter is None:
        return None
    position, name = splitter
    if position < len(call.args):
        return call.args[position]
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return None


def _splits_in_loop(target: ast.expr, source: ast.expr, *, within: ast.AST) -> Iterator[ast.expr]:
    """Yield the calls in a loop over a written list or mapping that split a name of the loop."""
    if isinstance(source, ast.Call) and isinstance(source.func, ast.Attribute):
        source = source.func.value  # `{…}.items()`
    if not isinstance(source, ast.Dict | ast.List | ast.Tuple | ast.Set):
        return
    names = {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
    for node in ast.walk(within):
        if isinstance(node, ast.Call):
            split = _split_by(node)
            if isinstance(split, ast.Name) and split.id in names:
                yield node


# All rules


def places_in_product(module: Module, product: Product) -> list[Place]:
    """Return the places in a module of the product that break a rule."""
    lines_by_rule: dict[str, Iterable[int]] = {
        "complexity": _complex_functions(module),
        "nested-conditional": _lines(_nested_conditionals(module)),
        "conditional-element": _lines(_conditional_elements(module)),
        "expression-statement": _lines(_expression_statements(module)),
        "boolean-number": _lines(_boolean_numbers(module)),
        "two-assignments": _lines(_two_assignments(module)),
        "three-loops": _lines(_three_loops(module)),
        "record-arguments": _lines(_record_arguments(module, product)),
        "split-names": _lines(_split_names(module, product)),
    }
    return [
        Place(file=module.file, line=line, rule=rule)
        for rule, lines in lines_by_rule.items()
        for line in lines
        if (module.file, module.definition_at(line), rule) not in EXCEPTIONS
    ]


def places_in_tests(module: Module) -> list[Place]:
    """Return the places in a module of tests that break one of the two rules for tests."""
    nested = _lines(_nested_conditionals(module))
    loops = _lines(_three_loops(module))
    return [
        *(Place(file=module.file, line=line, rule="nested-conditional") for line in nested),
        *(Place(file=module.file, line=line, rule="three-loops") for line in loops),
    ]


def _lines(expressions: Iterable[ast.expr]) -> list[int]:
    return sorted(expression.lineno for expression in expressions)


def all_places() -> list[Place]:
    """Return all places in the product and its tests that break a rule."""
    modules = [module for package in PACKAGES for module in read_modules(package)]
    product = study(modules)
    places = []
    for module in modules:
        places += places_in_product(module, product)
    for module in read_modules("tests"):
        places += places_in_tests(module)
    return sorted(places)


# The program


def check(places: list[Place]) -> int:
    """Print a message for each place, and return 1 if there is one."""
    for place in places:
        print(
            f"{place.file}:{place.line}: {RULES[place.rule]}; next: write it out, or state a reason"
            f" in EXCEPTIONS of {THIS}",
            file=sys.stderr,
        )
    return 1 if places else 0


def report(places: list[Place]) -> None:
    """Print the counts by rule and package, then every place."""
    packages = (*PACKAGES, "tests")
    counts = Counter((place.rule, place.package) for place in places)
    print(" " * 22, *packages, sep="  ")
    for rule in RULES:
        row = (f"{counts[rule, package]:{len(package)}}" for package in packages)
        print(f"{rule:22}", *row, sep="  ")
    for place in places:
        print(f"{place.file}:{place.line} {place.rule}")


def main(arguments: list[str]) -> int:
    """Run the program with its arguments."""
    if arguments == ["--check"]:
        return check(all_places())
    unknown = set(arguments) - {*RULES, *PACKAGES, "tests"}
    if unknown:
        print(f"not a rule or package: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    rules = [rule for rule in RULES if rule in arguments] or list(RULES)
    packages = [one for one in (*PACKAGES, "tests") if one in arguments] or [*PACKAGES, "tests"]
    report([one for one in all_places() if one.rule in rules and one.package in packages])
    return 0


if __name__ == "__main__":
    # Syntax trees are a million objects; looking through them for garbage would take longer than
    # the rules.
    gc.disable()
    sys.exit(main(sys.argv[1:]))
