"""Generator of `spec/conformance.md`: the tests and vectors for each rule, decision and threat.

A test covers a rule if its name or docstring contains the rule's id, or if
`conformance/rule_coverage.py` lists it. The vectors in `spec/vectors` and recorded cases name their
rules themselves. The page needs no recordings: the rules of each case are in
`tests/conformance/rules_of_cases.json`. That file is generated too, but written and compared only
if the recordings are beside the checkout.
"""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conformance.differences import DIFFERENCES
from conformance.rule_coverage import COVERED_BY, UNTESTED, VECTOR_TESTS
from conformance.threats import TESTS_OF_THREATS, UNTESTED_THREATS
from tests_support import REPOSITORY, SHARED_VECTORS, json_lines

SPEC = REPOSITORY / "spec"
PAGE = SPEC / "conformance.md"
CASES_TABLE = REPOSITORY / "tests" / "conformance" / "rules_of_cases.json"
RECORDED = SHARED_VECTORS / "wire" / "probes.jsonl"
PAGES = (
    "capabilities",
    "wire",
    "store",
    "change-feed",
    "replica",
    "encryption",
    "attestation",
    "release",
    "manifests",
    "receipts",
    "runner",
    "runner/task-guests",
    "runner/python",
    "run-grants",
    "tasks",
    "datasets",
    "provenance",
    "operations/backup",
    "operations/root-secret",
    "sms",
    "agents",
    "sharing",
    "sql",
    "oidc",
    "sql-caveats",
    "door",
    "recovery",
    "teams",
)

_MOST_TESTS, _TITLE_CHARS = 4, 96
_RULE = re.compile(r"^- \*\*([A-Z]{1,2}\d+a?)\*\* ?(\*Describes:\*)? ?(.*)$")
_ROW = re.compile(r"^\| (Q\d+|enc-[WD]\d+) \| (.*) \|$")
_HEADING = re.compile(r"^#+ (\d+(?:\.\d+)*)(?: to (\d+(?:\.\d+)*))?[. ] ?(.*)$")
_LETTERS = (
    r"(?:DR|RV|CF|RP|EN|AT|AG|RC|RL|RN|IP|ST|MF|MT|BK|RK|SM|OX|DS|PV|PY|TG|TK|TM|SH|SQ"
    r"|[PUXARECSTKVDIHMWQJ])"
)
_ID = re.compile(
    rf"(?<![\w-])(enc-[WD]\d+|iexec-[STDV]\d+|RN\d{{3}}|{_LETTERS}\d{{1,2}}a?)(?![\w])"
)
_RANGE = re.compile(rf"(?<![\w-])({_LETTERS})(\d{{1,3}})(?: to |–|-)(?:\1)?(\d{{1,3}})(?!\w)")
# Sections and cases of iExec's protocol, such as `X7.1 S5, S6`, which are no rules of ours.
_CASE = re.compile(r"(?<![\w-])X\d+\.\d+(?: S\d+(?:, S\d+)*)?")
_NAMED = re.compile(rf"(?<=_)({_LETTERS}\d{{1,2}}a?)(?=_|$)")
_NUMBER = r"\d+(?:\.\d+)*"
_PAGE_NAME = "|".join(("wire", "enc", *PAGES))
_CITED = re.compile(
    rf"(?<![\w-])({_PAGE_NAME})(?:\.md)? §?({_NUMBER}(?:(?:,| to| and) §?{_NUMBER})*)(?![\w%/])"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, a decision, a weak point, or a section without rules of its own.

    Attributes:
        id: `D22`, `Q6`, `enc-W5`, or for a section `wire 4.4.1`.
        page: file name on `spec/`, without its ending.
        text: the rule's text in Markdown, one line.
        describes: marked as explaining only.
    """

    id: str
    page: str
    text: str
    describes: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Held:
    """A test: its file, relative to `tests/`, and its name."""

    file: str
    name: str


# --- what the pages state


@cache
def rules() -> tuple[Rule, ...]:
    """Return the rules, decisions and weak points of all pages, in their order."""
    return tuple(rule for page in PAGES for line in _lines(page) for rule in _stated(page, line))


def _stated(page: str, line: str) -> Iterator[Rule]:
    if match := _RULE.match(line):
        yield Rule(match[1], page, match[3], describes=bool(match[2]))
    elif match := _ROW.match(line):
        yield Rule(match[1], page, match[2].replace(" | ", ": ", 1).replace(" | ", "; "))


@cache
def sections() -> tuple[Rule, ...]:
    """Return the sections of wire.md without numbered rules, which are cited by section number."""
    found: dict[str, Rule] = {}
    current: list[str] = []
    for line in _lines("wire"):
        if match := _HEADING.match(line):
            current = [f"wire {number}" for number in _numbers(match[1], match[2])]
            found |= {name: Rule(name, "wire", match[3]) for name in current}
        elif _RULE.match(line) or _ROW.match(line):
            for name in current:
                found.pop(name, None)
    return tuple(rule for name, rule in found.items() if _SECTION_OF_OPERATIONS.match(name))


_SECTION_OF_OPERATIONS = re.compile(
    r"wire (?:4\.4\.\d|4\.(?:5|6|7|10)|5\.(?:1|2|3|4|10|11|12|13)|7\.[12])$"
)


def _numbers(first: str, last: str | None) -> Iterator[str]:
    """Yield the numbers of a heading: `4.8 to 4.9` has two."""
    if last is None:
        yield first
        return
    stem, _, low = first.rpartition(".")
    for number in range(int(low), int(last.rpartition(".")[2]) + 1):
        yield f"{stem}.{number}"


def _lines(page: str) -> list[str]:
    return (SPEC / f"{page}.md").read_text("utf-8").splitlines()


# --- what holds it


def named(text: str) -> set[str]:
    """Return the ids in a text, including all of a range, and the sections."""
    text = _CASE.sub("", text)
    ids = set(_ID.findall(text))
    for letters, first, last in _RANGE.findall(text):
        ids |= {f"{letters}{number}" for number in range(int(first), int(last) + 1)}
    for page, numbers in _CITED.findall(text):
        ids |= {f"{page} {number}" for number in re.findall(_NUMBER, numbers)}
    # The weak points of the encryption page have the low numbers of W (spec/README.md).
    return {f"enc-{one}" if re.fullmatch(r"W1?\d", one) else one for one in ids}


@cache
def naming_tests() -> Mapping[str, frozenset[Held]]:
    """Return the tests that name an id; docstrings of modules do not count."""
    found: dict[str, set[Held]] = defaultdict(set)
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        _collect(path, found)
    return {one: frozenset(held) for one, held in found.items()}


@cache
def tests() -> Mapping[str, Sequence[Held]]:
    """Return the tests of an id: those that name it, and those listed for it."""
    said = {one: frozenset(map(held_of, listed)) for one, listed in COVERED_BY.items()}
    named_by = naming_tests()
    return {
        one: sorted(named_by.get(one, frozenset()) | said.get(one, frozenset()))
        for one in {**named_by, **said}
    }


def held_of(text: str) -> Held:
    """Return the test with the name `file::name`."""
    file, _, name = text.partition("::")
    return Held(file, name)


def _collect(path: Path, found: dict[str, set[Held]]) -> None:
    file = path.relative_to(REPOSITORY / "tests").as_posix()
    tree = ast.parse(path.read_text("utf-8"))
    functions = [
        one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    for function in functions:
        if function.name.startswith("test_"):
            for one in named(_words_of(function)):
                found[one].add(Held(file, function.name))


def _words_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return a test's name, its docstring, and the names of its parameter values."""
    in_name = _NAMED.findall(function.name)
    values = [
        keyword.value.value
        for decorator in function.decorator_list
        for call in ast.walk(decorator)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "id" and isinstance(keyword.value, ast.Constant)
    ]
    return "\n".join([*in_name, ast.get_docstring(function) or "", *map(str, values)])


@cache
def vectors() -> Mapping[str, Mapping[str, int]]:
    """Return the number of vectors in each file that name an id."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in sorted((SPEC / "vectors").rglob("*.json")):
        for case in json.loads(path.read_text("utf-8"))["cases"]:
            for one in case["rules"]:
                found[one][path.relative_to(SPEC / "vectors").as_posix()] += 1
    return found


@cache
def cases() -> Mapping[str, Sequence[str]]:
    """Return the recorded cases of an id, from the committed table."""
    table: dict[str, list[str]] = json.loads(CASES_TABLE.read_text("utf-8"))
    found = {_own_id(one): names for one, names in table.items()}
    for name, difference in DIFFERENCES.items():
        if match := re.match(
            r"(Q\d+|enc-[WD]\d+|[A-Z]{1,2}\d+|wire \d[\d.]*\d)(?!\w)", difference.reason
        ):
            found[match[1]] = sorted({*found.get(match[1], []), name})
    return found


def _own_id(stated: str) -> str:
    """Return the id that the pages use for a case; its sections lack the page's name."""
    if stated[0].isdigit():
        return f"wire {stated}"
    return re.sub(r"^enc-(?=\d)", "enc ", stated)


def recorded_table() -> dict[str, list[str]]:
    """Return the table of cases by rule, from the recordings."""
    found: dict[str, list[str]] = defaultdict(list)
    for case in json_lines(RECORDED):
        for one in case["rules"]:
            found[one].append(case["case"])
    return {one: sorted(names) for one, names in sorted(found.items())}


def reason(rule: Rule) -> str:
    """Return the reason why a rule needs no test, or an empty text."""
    return "*describes*" if rule.describes else UNTESTED.get(rule.id, "")


def is_held(rule: Rule) -> bool:
    """Return whether a vector, or a test that needs no recordings, covers a rule."""
    return rule.id in vectors() or any(
        not _needs_recordings(one.file) for one in tests().get(rule.id, ())
    )


@cache
def _needs_recordings(file: str) -> bool:
    return "\npytestmark = pytest.mark.shared\n" in (REPOSITORY / "tests" / file).read_text("utf-8")


# --- the page


_HEAD = """\
# Conformance

For implementers and reviewers: find the tests and vectors of each rule. Generated by `make pages`;
`make check` fails if it is out of date, and a test fails if a rule has neither a test nor a reason
for having none.

*Tests* are files and functions below `tests/`. Tests that cover a rule without naming its id are
listed in `tests/conformance/rule_coverage.py`. *Vectors* are in [vectors/](vectors/README.md);
every test of `tests/spec` that reads a vector file runs all of its cases. *Recorded* cases are
exchanges with another server of the protocol, by group and number. This node gives the same
answers, except for the differences that `tests/conformance/differences.py` lists with reasons
(`conformance/test_probes.py`, `conformance/test_probes_default_settings.py`). The recordings are
not part of the repository. Without them these tests are skipped, so they do not count in the sum
below.
"""


def page() -> str:
    """Return the whole page."""
    tables = [
        (name.capitalize(), f"Of [{name}.md]({name}.md).", _table(_rules_of(name)))
        for name in PAGES
    ]
    decisions = [rule for rule in rules() if rule.id.startswith("Q")]
    tables += [
        ("Decisions", "Of [wire.md](wire.md) §9.2, with what this node does.", _table(decisions)),
        (
            "Operations",
            "Sections of [wire.md](wire.md) without numbered rules.",
            _table(sections()),
        ),
        ("Threats", "Of [threat-model.md](threat-model.md) §3.", _threats()),
    ]
    parts = [
        f"## {number}. {head}\n\n{of}\n\n{table}"
        for number, (head, of, table) in enumerate(tables, 1)
    ]
    return "\n".join([_HEAD, _summary(), *parts])


def _rules_of(name: str) -> list[Rule]:
    return [rule for rule in rules() if rule.page == name and not rule.id.startswith("Q")]


def _summary() -> str:
    every = rules()
    by_test = sum(rule.id in tests() for rule in every)
    left = sum(not is_held(rule) for rule in every)
    return (
        f"{len(every)} rules, decisions and weak points: {by_test} are held by tests, "
        f"{len(every) - by_test - left} by vectors alone, {left} by none, for the reason given.\n"
    )


def _table(items: Iterable[Rule]) -> str:
    rows = [f"| **{rule.id}** | {_title(rule.text)} | {_held_by(rule)} |" for rule in items]
    return "\n".join(["| id | says | held by |", "|---|---|---|", *rows]) + "\n"


def _title(text: str) -> str:
    """Return the beginning of a rule as plain text."""
    plain = (
        re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        .replace("`", "")
        .replace("*", "")
        .replace("\\|", "or")
    )
    plain = plain.replace("|", "∣").replace("<", "‹").replace(">", "›").replace("[", "\\[")
    if len(plain) <= _TITLE_CHARS:
        return plain
    return plain[:_TITLE_CHARS].rpartition(" ")[0].rstrip(",;:") + " …"


def _held_by(rule: Rule) -> str:
    held = tests().get(rule.id) or _vector_tests(rule.id)
    parts = [_tests_text(held), _vectors_text(rule.id), _cases_text(rule.id)]
    return "; ".join(part for part in parts if part) or f"– ({reason(rule)})"


def _tests_text(held: Sequence[Held]) -> str:
    shown = sorted(held)[:_MOST_TESTS]
    by_file: dict[str, list[str]] = defaultdict(list)
    for one in sorted(shown):
        by_file[one.file].append(f"`{one.name}`")
    more = f", and {len(held) - len(shown)} more" if len(held) > len(shown) else ""
    return "; ".join(f"`{file}` {', '.join(names)}" for file, names in by_file.items()) + more


def _vector_tests(one: str) -> list[Held]:
    """Return the tests that run a rule's vectors, for a rule that no test names."""
    return [held_of(text) for file in vectors().get(one, {}) for text in VECTOR_TESTS[file]]


def _vectors_text(one: str) -> str:
    counts = vectors().get(one, {})
    return (
        "vectors: " + ", ".join(f"{file} {count}" for file, count in counts.items())
        if counts
        else ""
    )


def _cases_text(one: str) -> str:
    counts: dict[str, int] = defaultdict(int)
    for name in cases().get(one, ()):
        counts[name.partition(".")[0]] += 1
    return (
        "recorded: " + ", ".join(f"{group} {count}" for group, count in sorted(counts.items()))
        if counts
        else ""
    )


# --- threats


@dataclass(frozen=True, slots=True)
class Threat:
    """A row of the threat model: section number, kind (S, T, R, I, D or E), and text."""

    section: str
    kind: str
    text: str

    @property
    def key(self) -> str:
        """The unique name of the row: its section and its text."""
        return f"{self.section} {self.text}"


def threats() -> Iterator[Threat]:
    """Yield the rows of the threat model's tables."""
    section = ""
    for line in _lines("threat-model"):
        if match := _HEADING.match(line):
            section = match[1]
        elif match := re.match(r"^\| ([STRIDE]) \| ([^|]+) \|", line):
            yield Threat(section, match[1], match[2].strip())


def _threats() -> str:
    rows = [
        f"| {threat.section} | {threat.kind} | {_title(threat.text)} | {_threat_held_by(threat)} |"
        for threat in threats()
    ]
    head = ["| section | kind | threat | held by |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def _threat_held_by(threat: Threat) -> str:
    held = TESTS_OF_THREATS.get(threat.key)
    if held is None:
        return f"– ({UNTESTED_THREATS.get(threat.key, '')})"
    return _tests_text([held_of(one) for one in held])


def case_table() -> str:
    """Return the committed table of cases, made from the recordings, one line for each rule."""
    rows = [f"  {json.dumps(one)}: {json.dumps(names)}" for one, names in recorded_table().items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"
