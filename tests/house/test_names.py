"""Names of the product are the field's words: what was called otherwise before is called so nowhere again."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from tests_support import PACKAGES, REPOSITORY

# pattern of a former name -> what the thing is called now
FORMER = {
    r"(?i)stranger": "unauthenticated (client); in tests outsider",
    r"(?i)in_?step|^came$|^went$": "cohort, arrived, answered",
    r"(?i)(^|_)rooms?(_|$)|Room": "free space; of code: module, package",
    r"_rung|^bell$": "wakeup",
    r"^say_form$|^check_form$|^FORM$": "format version",
    r"(^|_)(told|tells?)(_|$)|Told|Tell": "reported, sampled, printed",
    r"^_?Watch|(^|_)watch(_|$)": "observer",
    r"^_?(Planned|Asked|Judged|Said)$": "CommitPlan, RequestParameters, Verdict, Statement",
    r"(?i)first_?use": "replay record",
    r"(?i)kept_?doc": "document cache",
    r"(?i)whoever|somebody": "the caller, the holder, a client",
}
# What the wire or a library names so, or another thing: file -> names.
OTHERWISE = {
    "spaces/store/lmdb/_link.py": {"_watch"},  # a socket is watched
}
# Large values are objects; what a key seals is a blob, here and in the vectors.
BLOB = r"(?i)(^|_)blobs?(_|$)|Blob"
WITHOUT_BLOBS = ("node", "sealspace", "spaces")


@cache
def _names_of(package: str) -> Mapping[str, frozenset[str]]:
    """Return all names of each module of a package; each is parsed once for all patterns."""
    modules = sorted((REPOSITORY / package).rglob("*.py"))
    return {str(path.relative_to(REPOSITORY)): frozenset((path.stem, *_names(path))) for path in modules}


def _names(path: Path) -> Iterator[str]:
    """Yield every name that a module binds or uses."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield from name.split(".")
                yield other or ""


def _found(pattern: str, packages: tuple[str, ...]) -> list[str]:
    looked_for = re.compile(pattern)
    found = []
    for place, bound in (module for package in packages for module in _names_of(package).items()):
        names = bound - OTHERWISE.get(place, set())
        found += [f"{place}: {name}" for name in sorted(names) if looked_for.search(name)]
    return found


@pytest.mark.parametrize("pattern", FORMER)
def test_former_names(pattern: str) -> None:
    """No module, class, function or variable has a former name."""
    assert _found(pattern, PACKAGES) == []


def test_large_values_are_objects() -> None:
    """A value in a file or a bucket is an object, in every name."""
    assert _found(BLOB, WITHOUT_BLOBS) == []


def test_the_pattern_finds_what_it_should() -> None:
    """What seals keys does say blob: the search looks into modules."""
    assert _found(BLOB, ("encryption_network",)) != []
