"""Mutate modules that guard, in one place at a time, and run the tests that cover them.

    python tools/mutants.py [MODULE …]    continue with all modules or these, and print results
    python tools/mutants.py --again       test the survivors again, for example after a new test
    python tools/mutants.py --results     print the results so far
    python tools/mutants.py --sample 200 --seed 7
                                          draw mutants of the other modules, and test those

It needs cosmic-ray, which `make mutants` installs. `mutants.toml` names the modules and the tests
of each. Mutants that survive the first tests are run against the wider ones. A mutant that survives
those is judged by hand: a test is missing, or the mutant is equivalent, and `mutants.toml` says
why.

A sample is drawn from the modules of `capabilities` and `encryption_network` that `mutants.toml`
does not name. Each of its mutants has to pass the files of tests that import its module. These are
in the folders of both packages and of the specification; where none is, in those of `spaces` and
`sealspace`; where none is there, all tests of the package's folder are run. Tests that draw
examples draw ten, or as many as FUZZ_EXAMPLES says. The same numbers draw the same mutants, as long
as no text changes.

A test process imports the module once. For each mutant it forks, and the child runs the tests with
the functions of the mutant, which costs a fraction of a new process. Mutants of what runs at import
are written into a copy of the checkout, and a child imports that. The results are in
`.cache/mutants`, in one SQLite file for each text of a module, so that a run can be interrupted and
continued.

Exit status: 0, or 1 if a mutant survives that nobody judged.
"""

import argparse
import difflib
import gc
import hashlib
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import chdir, closing
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import cache_from_source
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import cosmic_ray.plugins
import pytest
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult
from parso.python.tree import Keyword, PythonNode

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / ".cache" / "mutants"
COPY = RESULTS / "checkout"
SAMPLED_PACKAGES = ("capabilities", "encryption_network")
SAMPLED_TESTS = (("capabilities", "encryption_network", "spec"), ("spaces", "sealspace"))
TIMEOUT_S = 300

_NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".cache", ".hypothesis", "__pycache__", "dist", "node_modules"
)

# Those of cosmic-ray that change a decision. Others change types, or only repeat one of these.
_OPERATORS = (
    "AddNot",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ReplaceAndWithOr",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Mul_Add",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBreakWithContinue",
    "ReplaceComparisonOperator_Eq_GtE",
    "ReplaceComparisonOperator_Eq_LtE",
    "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_GtE_Lt",
    "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_Gt_LtE",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_LtE_Gt",
    "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_Lt_GtE",
    "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_NotEq_Eq",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
    "ZeroIterationForLoop",
)

Positions = Iterator[tuple[tuple[int, int], tuple[int, int]]]


class _WithoutArguments:
    @staticmethod
    def arguments() -> tuple[()]:
        """Return the arguments of the operator: it has none."""
        return ()


class RemoveStatement(_WithoutArguments):
    """An operator that replaces a call or a `raise` by `pass`, for example the call of a check."""

    def mutation_positions(self, node: Any) -> Positions:
        """Yield the position of the statement."""
        if node.type == "simple_stmt" and node.children[0].type in ("atom_expr", "raise_stmt"):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Replace the statement."""
        removed = node.children[0]
        prefix = removed.get_first_leaf().prefix
        node.children[0] = Keyword("pass", removed.start_pos, prefix=prefix)
        return node


class ReplaceMembership(_WithoutArguments):
    """An operator that turns `in` into `not in`, and the other way round."""

    def mutation_positions(self, node: Any) -> Positions:
        """Yield the positions of the operators."""
        for place in self._places(node):
            yield node.children[place].start_pos, node.children[place].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Replace one operator."""
        place = list(self._places(node))[index]
        found = node.children[place]
        other = "in" if found.type == "comp_op" else "not in"
        node.children[place] = Keyword(other, found.start_pos, prefix=" ")
        return node

    @staticmethod
    def _places(node: Any) -> Iterator[int]:
        if isinstance(node, PythonNode) and node.type == "comparison":
            for place in range(1, len(node.children), 2):
                if node.children[place].get_code().split() in (["in"], ["not", "in"]):
                    yield place


class Operators:
    """A provider of operators: some of cosmic-ray's, and two of ours."""

    def __init__(self) -> None:
        self._theirs = OperatorProvider()
        self._ours = {
            "RemoveStatement": RemoveStatement,
            "ReplaceMembership": ReplaceMembership,
        }

    def __iter__(self) -> Iterator[str]:
        return iter((*_OPERATORS, *self._ours))

    def __getitem__(self, name: str) -> Any:
        return self._ours.get(name) or self._theirs[name]


@dataclass(frozen=True)
class Module:
    """A module that is mutated.

    Attributes:
        path: relative to the checkout.
        first: arguments of pytest for the tests that every mutant has to pass.
        wider: those for the mutants that survive the first tests; may be empty.
        sample: the count and the seed of a sample.
        drawn: the mutants in the sample, each by its operator and occurrence; None means all.
    """

    path: str
    first: tuple[str, ...]
    wider: tuple[str, ...] = ()
    sample: str = ""
    drawn: frozenset[tuple[str, int]] | None = None

    @property
    def results(self) -> Path:
        """The file of results for the present text of the module, and for what was drawn."""
        digest = hashlib.sha256((ROOT / self.path).read_bytes())
        if self.drawn is not None:
            digest.update(repr(sorted(self.drawn)).encode())
        name = self.path.removesuffix(".py").replace("/", ".")
        return RESULTS / f"{name}{self.sample}.{digest.hexdigest()[:12]}.sqlite"


@dataclass(frozen=True)
class Change:
    """The change of a mutant: the lines that were replaced, and those in their place."""

    module: str
    definition: str
    was: str
    became: str


# --- running --------------------------------------------------------------------------------------


def _arguments(tests: tuple[str, ...]) -> list[str]:
    # Hypothesis is imported before pytest starts, and has no assertions to rewrite.
    ignored = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
    return ["-qq", "-x", "-n0", "-p", "no:randomly", *ignored, *tests]


def _copy_checkout() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(ROOT, COPY, ignore=_NOT_COPIED)


def _prepare(module: Module) -> None:
    """List the mutants of a module, unless a former run did."""
    if module.results.exists():
        return
    unfinished = module.results.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with chdir(ROOT), use_db(str(unfinished), WorkDB.Mode.create) as results:
        init([Path(module.path)], results, {})
    with closing(sqlite3.connect(unfinished)) as database, database:
        database.execute("CREATE TABLE stage (name TEXT NOT NULL)")
        database.execute("INSERT INTO stage VALUES ('first')")
        if module.drawn is not None:
            _remove_all_but(module.drawn, database)
    unfinished.rename(module.results)


def _remove_all_but(drawn: frozenset[tuple[str, int]], database: sqlite3.Connection) -> None:
    mutants = database.execute("SELECT job_id, operator_name, occurrence FROM mutation_specs")
    for job_id, operator, occurrence in mutants.fetchall():
        if (operator, occurrence) not in drawn:
            database.execute("DELETE FROM mutation_specs WHERE job_id = ?", (job_id,))
            database.execute("DELETE FROM work_items WHERE job_id = ?", (job_id,))


def _stage(module: Module) -> str:
    with closing(sqlite3.connect(module.results)) as database:
        (name,) = database.execute("SELECT name FROM stage").fetchone()
    return str(name)


def _begin_wider_stage(module: Module) -> None:
    """Forget the result of each survivor, so that it is tested again."""
    with closing(sqlite3.connect(module.results)) as database, database:
        database.execute("DELETE FROM work_results WHERE test_outcome = 'SURVIVED'")
        database.execute("UPDATE stage SET name = 'wider'")


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all that are in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _own_part(code: CodeType) -> tuple[object, ...]:
    """Return what a code object does itself, without the functions that it makes."""
    constants = tuple(
        "code" if isinstance(constant, CodeType) else (type(constant), constant)
        for constant in code.co_consts
    )
    return code.co_code, constants, code.co_names, code.co_varnames


def _diff(sound: str, mutated: str) -> str:
    lines = difflib.unified_diff(sound.splitlines(), mutated.splitlines(), n=0, lineterm="")
    return "\n".join(lines)


def _fork(run: Callable[[int], int], timeout_s: float) -> tuple[bool, bytes]:
    """Run a function in a child process, without output.

    The function gets a file descriptor to write to. Returns whether its result was 0 in time, and
    what it wrote.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            status = run(writing)
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as answers:
        is_done = bool(select.select([answers], [], [], timeout_s)[0])
        if not is_done:
            os.killpg(child, signal.SIGKILL)
        answer = answers.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0, answer


class ForkedMutants:
    """A plugin of pytest that runs the collected tests once for each mutant, in a child process.

    The tests that found a mutant run first for the next one, because they often find that one too.
    Mutants that change what runs at import are left without a result.
    """

    def __init__(self, module: Module, results: WorkDB) -> None:
        self._path = ROOT / module.path
        self._source = self._path.read_text("utf-8")
        self._sound = list(_codes(compile(self._source, str(self._path), "exec")))
        self._functions: list[FunctionType] = []
        self._results = results
        self._items: list[pytest.Item] = []
        self._timeout_s = float(TIMEOUT_S)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests of the whole module, and then of each mutant that has no result."""
        self._items = list(session.items)
        # The tests' plugin froze what was imported, and frozen objects are not listed.
        gc.unfreeze()
        self._functions = [
            one
            for one in gc.get_objects()
            if type(one) is FunctionType and one.__code__.co_filename == str(self._path)
        ]
        gc.freeze()
        started = time.monotonic()
        if self._outcome({}) is not TestOutcome.SURVIVED:
            raise pytest.UsageError(f"{self._path}: the tests fail without a mutant")
        # Much more than the tests take, because a mutant may be in a loop without an end.
        self._timeout_s = 20 + 5 * (time.monotonic() - started)
        pending = sorted(
            self._results.pending_work_items, key=lambda item: item.mutations[0].start_pos
        )
        for item in pending:
            (mutation,) = item.mutations
            operator = cosmic_ray.plugins.get_operator(mutation.operator_name)()
            mutated = mutate_code(self._source, operator, mutation.occurrence)
            replaced = self._replaced_functions(mutated)
            if replaced is None:
                continue
            result = WorkResult(
                worker_outcome=WorkerOutcome.NORMAL,
                test_outcome=self._outcome(replaced),
                diff=_diff(self._source, mutated),
            )
            self._results.set_result(item.job_id, result)
        return True

    def _replaced_functions(self, mutated: str) -> dict[FunctionType, CodeType] | None:
        """Return the functions that a mutant changes, each with its new code.

        The result is None if the mutant changes something else, for example a constant.
        """
        try:
            mutant = list(_codes(compile(mutated, str(self._path), "exec")))
        except SyntaxError:
            return None
        if len(self._sound) != len(mutant):
            return None
        changed = {
            one.co_qualname
            for one, other in zip(self._sound, mutant, strict=True)
            if _own_part(one) != _own_part(other)
        }
        # A nested function is made by the code of the one around it.
        outermost = {name.split(".<locals>")[0] for name in changed}
        codes = {code.co_qualname: code for code in mutant if code.co_qualname in outermost}
        found = {
            one: codes[one.__code__.co_qualname]
            for one in self._functions
            if one.__code__.co_qualname in outermost
        }
        if {one.__code__.co_qualname for one in found} != outermost:
            return None
        return found

    def _outcome(self, replaced: dict[FunctionType, CodeType]) -> TestOutcome:
        passed, failed = _fork(partial(self._run_tests, replaced), self._timeout_s)
        if failed:
            self._items.insert(0, self._items.pop(int(failed)))
        return TestOutcome.SURVIVED if passed else TestOutcome.KILLED

    def _run_tests(self, replaced: dict[FunctionType, CodeType], writing: int) -> int:
        """Run the tests with the mutant, and write the place of the first that fails."""
        for function, code in replaced.items():
            function.__code__ = code
        following = [*self._items[1:], None]
        for place, item in enumerate(self._items):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following[place])
            if item.session.testsfailed:
                os.write(writing, str(place).encode())
                return 1
        return 0


def _run_forked(module: Module, tests: tuple[str, ...]) -> int:
    """Run the mutants that change functions; return the exit status of pytest."""
    with use_db(str(module.results), WorkDB.Mode.open) as results, chdir(ROOT):
        return int(pytest.main(_arguments(tests), plugins=[ForkedMutants(module, results)]))


def _is_pending(module: Module) -> bool:
    with use_db(str(module.results), WorkDB.Mode.open) as results:
        return bool(results.num_results < results.num_work_items)


def _run_pending(module: Module, tests: tuple[str, ...]) -> None:
    if not _is_pending(module):
        return
    # A process for each stage, because what was imported for a former one is not imported again.
    child = os.fork()
    if child == 0:
        os._exit(_run_forked(module, tests))
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"{module.path}: the tests did not run")
    with use_db(str(module.results), WorkDB.Mode.open) as results:
        pending = list(results.pending_work_items)
        if pending and not _pass_in_copy(module, tests):
            raise SystemExit(f"{module.path}: the tests fail in the copy without a mutant")
        for item in pending:
            results.set_result(item.job_id, _result_in_copy(module, tests, item.mutations[0]))


def _result_in_copy(module: Module, tests: tuple[str, ...], mutation: MutationSpec) -> WorkResult:
    """Write a mutant into the copy of the checkout, and run the tests there."""
    path = COPY / module.path
    sound = path.read_text("utf-8")
    operator = cosmic_ray.plugins.get_operator(mutation.operator_name)()
    mutated = mutate_code(sound, operator, mutation.occurrence)
    path.write_text(mutated, "utf-8")
    try:
        passed = _pass_in_copy(module, tests)
    finally:
        path.write_text(sound, "utf-8")
    return WorkResult(
        worker_outcome=WorkerOutcome.NORMAL,
        test_outcome=TestOutcome.SURVIVED if passed else TestOutcome.KILLED,
        diff=_diff(sound, mutated),
    )


def _pass_in_copy(module: Module, tests: tuple[str, ...]) -> bool:
    # A compiled module is used for each text of the same second and size.
    Path(cache_from_source(str(COPY / module.path))).unlink(missing_ok=True)

    def run_tests(_: int) -> int:
        os.chdir(COPY)
        sys.path.insert(0, str(COPY))
        return int(pytest.main(_arguments(tests)))

    passed, _ = _fork(run_tests, TIMEOUT_S)
    return passed


def _run_first(module: Module) -> None:
    _prepare(module)
    if _stage(module) == "first":
        _run_pending(module, module.first)
        if module.wider:
            _begin_wider_stage(module)


# --- a sample -------------------------------------------------------------------------------------


def _tests_that_import(path: str) -> tuple[str, ...]:
    """Return the files of tests that import a module, or the folder of its package's tests."""
    package, _, file_name = path.partition("/")
    name = file_name.removesuffix(".py")
    imported = re.compile(
        rf"from {package}\.{name} import|import {package}\.{name}\b"
        rf"|from {package} import \(?[^)]*\b{name}\b"
    )
    for folders in SAMPLED_TESTS:
        found = []
        for folder in folders:
            for test in sorted((ROOT / "tests" / folder).rglob("test_*.py")):
                if imported.search(test.read_text("utf-8")):
                    found.append(str(test.relative_to(ROOT)))
        if found:
            return tuple(found)
    return (f"tests/{package}",)


def _listed_mutants(path: str) -> list[tuple[str, int]]:
    """Return the operator and occurrence of each mutant of a module, in a fixed order."""
    with (
        tempfile.TemporaryDirectory(dir=RESULTS) as folder,
        chdir(ROOT),
        use_db(str(Path(folder) / "all.sqlite"), WorkDB.Mode.create) as results,
    ):
        init([Path(path)], results, {})
        mutations = [item.mutations[0] for item in results.work_items]
    return sorted((one.operator_name, one.occurrence) for one in mutations)


def _draw(named: list[Module], *, count: int, seed: int) -> list[Module]:
    """Draw mutants of the modules that are not named; return the modules that have some."""
    paths = set()
    for package in SAMPLED_PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            paths.add(str(file.relative_to(ROOT)))
    paths -= {module.path for module in named}
    mutants = []
    for path in sorted(paths):
        for operator, occurrence in _listed_mutants(path):
            mutants.append((path, operator, occurrence))
    drawn = random.Random(seed).sample(mutants, count)
    print(f"a sample of {count} of {len(mutants)} mutants in {len(paths)} modules, seed {seed}")
    sampled = []
    for path in sorted({path for path, _, _ in drawn}):
        own = [(operator, occurrence) for of, operator, occurrence in drawn if of == path]
        sampled.append(
            Module(
                path,
                first=_tests_that_import(path),
                sample=f".sample-{count}-{seed}",
                drawn=frozenset(own),
            )
        )
    return sampled


# --- results --------------------------------------------------------------------------------------


def _change(module: Module, definition: str | None, diff: str) -> Change:
    was: list[str] = []
    became: list[str] = []
    for line in diff.splitlines():
        text = line[1:].strip()
        if line.startswith(("---", "+++")) or not text:
            continue
        if line.startswith("-"):
            was.append(text)
        elif line.startswith("+"):
            became.append(text)
    return Change(module.path, definition or "", " ".join(was), " ".join(became))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The numbers of mutants of some modules."""

    made: int = 0
    tested: int = 0
    survived: int = 0
    unjudged: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """Return the sums."""
        return Counts(
            made=self.made + other.made,
            tested=self.tested + other.tested,
            survived=self.survived + other.survived,
            unjudged=self.unjudged + other.unjudged,
        )

    def __str__(self) -> str:
        return (
            f"{self.made} mutants, {self.tested} tested, {self.tested - self.survived} killed,"
            f" {self.survived - self.unjudged} equivalent, {self.unjudged} not judged"
        )


def _print_results(module: Module, judged: set[Change]) -> Counts:
    """Print the numbers of a module and its unjudged survivors; return the numbers."""
    with closing(sqlite3.connect(module.results)) as database:
        made = database.execute("SELECT count(*) FROM work_items").fetchone()[0]
        rows = database.execute(
            "SELECT test_outcome, start_pos_row, definition_name, diff"
            " FROM work_results JOIN mutation_specs USING (job_id) ORDER BY start_pos_row"
        ).fetchall()
    survivors = [
        (line, _change(module, definition, diff))
        for outcome, line, definition, diff in rows
        if outcome == "SURVIVED"
    ]
    unjudged = [(line, change) for line, change in survivors if change not in judged]
    counts = Counts(made=made, tested=len(rows), survived=len(survivors), unjudged=len(unjudged))
    print(f"{module.path}: {counts}")
    for line, change in unjudged:
        print(f"  {line} {change.definition}\n    - {change.was}\n    + {change.became}")
    return counts


def _run(modules: list[Module], *, is_again: bool) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    _copy_checkout()
    # Each child has it already.
    import_module("hypothesis")
    for module in modules:
        _run_first(module)
    for module in modules:
        if is_again:
            _begin_wider_stage(module)
        _run_pending(module, module.wider or module.first)


def main() -> int:
    """Run the mutants and print what became of them."""
    parser = argparse.ArgumentParser(description="Mutate modules that guard.")
    parser.add_argument("module", nargs="*", help="paths of modules; all without one")
    parser.add_argument("--again", action="store_true", help="test the survivors again")
    parser.add_argument("--results", action="store_true", help="print results, and run nothing")
    parser.add_argument("--sample", type=int, metavar="N", help="mutants of the other modules")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    options = parser.parse_args()
    settings = tomllib.loads((ROOT / "tools" / "mutants.toml").read_text("utf-8"))
    modules = [
        Module(one["path"], tuple(one["first"]), tuple(one["wider"])) for one in settings["module"]
    ]
    judged = {
        Change(one["module"], one["definition"], one["was"], one["became"])
        for one in settings.get("equivalent", ())
    }
    cosmic_ray.plugins.OPERATOR_PROVIDERS.clear()
    cosmic_ray.plugins.OPERATOR_PROVIDERS["guards"] = Operators()
    if options.sample:
        RESULTS.mkdir(parents=True, exist_ok=True)
        modules = _draw(modules, count=options.sample, seed=options.seed)
        os.environ.setdefault("FUZZ_EXAMPLES", "10")
    wanted = [one for one in modules if not options.module or one.path in options.module]
    if not options.results:
        _run(wanted, is_again=options.again)
    total = Counts()
    for module in wanted:
        if module.results.exists():
            total = total.plus(_print_results(module, judged))
    print(f"in all: {total}")
    return 1 if total.unjudged else 0


if __name__ == "__main__":
    sys.exit(main())
