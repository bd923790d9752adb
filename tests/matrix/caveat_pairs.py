"""Pairs of caveat lists: what a grant states, and what the token below it states.

Each pair is made for the granted resource.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Caveats: TypeAlias = tuple[Mapping[str, Any], ...]
"""A caveat list as in a token; `({},)` states no caveat."""
Pair: TypeAlias = Callable[[str], tuple[Caveats, Caveats]]

NONE: Caveats = ({},)
_SELECTOR = "xyz.tinycloud.resource/selector"


def _path_of(resource: str) -> str:
    """Return the path of a resource, or all of a text that has none."""
    parts = resource.partition("#")[0].split("/", 2)
    return parts[2] if len(parts) > 2 else resource


def _selector(kind: str, value: str) -> Caveats:
    return ({"type": _SELECTOR, "kind": kind, "value": value},)


def _both(caveats: Caveats) -> Pair:
    return lambda _resource: (caveats, caveats)


def _fixed(granted: Caveats, stated: Caveats) -> Pair:
    return lambda _resource: (granted, stated)


def _selected(kind: str, *, whole: bool = False, suffix: str = "") -> Pair:
    """Return a pair that states one selector twice."""

    def pair(resource: str) -> tuple[Caveats, Caveats]:
        value = (resource if whole else _path_of(resource)) + suffix
        return _selector(kind, value), _selector(kind, value)

    return pair


def _reselected(granted: str, stated: str, suffix: str) -> Pair:
    """Return a pair whose second selector has another kind, or a continued value."""

    def pair(resource: str) -> tuple[Caveats, Caveats]:
        value = _path_of(resource)
        return _selector(granted, value), _selector(stated, value + suffix)

    return pair


_K1: Caveats = ({"k": 1},)

PAIRS: dict[str, Pair] = {
    "none": _both(NONE),
    "kept": _both(_K1),
    "dropped": _fixed(_K1, NONE),
    "added": _fixed(NONE, _K1),
    "changed": _fixed(_K1, ({"k": 2},)),
    "a member more": _fixed(_K1, ({"k": 1, "l": 1},)),
    "an object more": _fixed(_K1, ({"k": 1}, {"l": 1})),
    "order changed": _fixed(({"k": 1}, {"l": 1}), ({"l": 1}, {"k": 1})),
    "1 as 1.0": _fixed(_K1, ({"k": 1.0},)),
    "1 as true": _fixed(_K1, ({"k": True},)),
    "two empty": _both(({}, {})),
    "two empty as one": _fixed(({}, {}), NONE),
    "selector exact": _selected("exact"),
    "selector prefix": _selected("prefix"),
    "selector whole resource": _selected("exact", whole=True),
    "selector whole prefix": _selected("prefix", whole=True),
    "selector elsewhere": _selected("exact", suffix="2"),
    "selector wider": lambda resource: 2 * (_selector("prefix", _path_of(resource)[:2]),),
    "selector dropped": lambda resource: (_selector("prefix", _path_of(resource)), NONE),
    "selector added": lambda resource: (NONE, _selector("prefix", _path_of(resource))),
    "selector narrowed": _reselected("prefix", "prefix", "/x"),
    "selector narrowed to exact": _reselected("prefix", "exact", "/x"),
    "selector of the same value": _reselected("prefix", "exact", ""),
    "selector widened": _reselected("exact", "prefix", ""),
    "selector continued": _reselected("prefix", "prefix", "2"),
    "selector with a member more": lambda resource: (
        2 * (({**_selector("exact", _path_of(resource))[0], "more": 1},),)
    ),
    "selector of unknown kind": lambda resource: 2 * (_selector("any", _path_of(resource)),),
    "selector beside another": lambda resource: (
        2 * ((*_selector("exact", _path_of(resource)), {"k": 1}),)
    ),
}


def _constrained(*statements: Mapping[str, Any], **changes: Any) -> Caveats:
    stated = {"mode": "constrained-statements", "readOnly": True, "statements": [*statements]}
    return (stated | changes,)


def _statement(name: str, *fixed: tuple[int, Any], sql: str = "SELECT 1") -> dict[str, Any]:
    parameters = [{"index": index, "value": value} for index, value in fixed]
    return {"name": name, "sql": sql, "fixedParams": parameters}


_ONE, _TWO = _statement("one", (1, "bob")), _statement("two")
_TABLES: Caveats = ({"tables": ["a", "b"]},)
_LIMITED: Caveats = ({"tables": ["a", "b"], "columns": ["x", "y"], "readOnly": True},)

SQL_PAIRS: dict[str, Pair] = {
    "none": _both(NONE),
    "tables kept": _both(_TABLES),
    "tables added": _fixed(NONE, _TABLES),
    "tables fewer": _fixed(_TABLES, ({"tables": ["a"]},)),
    "tables other order": _fixed(_TABLES, ({"tables": ["b", "a"]},)),
    "tables more": _fixed(_TABLES, ({"tables": ["a", "b", "c"]},)),
    "tables in another case": _fixed(_TABLES, ({"tables": ["A"]},)),
    "tables dropped": _fixed(_TABLES, NONE),
    "columns narrowed": _fixed(_LIMITED, ({"tables": ["a"], "columns": ["x"], "readOnly": True},)),
    "columns dropped": _fixed(_LIMITED, ({"tables": ["a"], "readOnly": True},)),
    "writing regained": _fixed(_LIMITED, ({"tables": ["a"], "columns": ["x"]},)),
    "no tables": _fixed(_TABLES, ({"tables": []},)),
    "statements kept": _both(_constrained(_ONE, _TWO)),
    "statements added": _fixed(NONE, _constrained(_ONE)),
    "statements under tables": _fixed(_TABLES, _constrained(_ONE, tables=["a"])),
    "statements without tables": _fixed(_TABLES, _constrained(_ONE)),
    "statements fewer": _fixed(_constrained(_ONE, _TWO), _constrained(_TWO)),
    "statements more": _fixed(_constrained(_ONE), _constrained(_ONE, _TWO)),
    "statement of another text": _fixed(
        _constrained(_ONE), _constrained({**_ONE, "sql": "SELECT 2"})
    ),
    "statements dropped": _fixed(_constrained(_ONE), ({"readOnly": True},)),
    "parameter fixed": _fixed(_constrained(_TWO), _constrained(_statement("two", (0, 7)))),
    "parameter dropped": _fixed(_constrained(_ONE), _constrained(_statement("one"))),
    "parameter of another value": _fixed(
        _constrained(_ONE), _constrained(_statement("one", (1, "eve")))
    ),
    "parameter of another type": _fixed(
        _constrained(_statement("one", (1, 1))), _constrained(_statement("one", (1, 1.0)))
    ),
    "statements nested": lambda _resource: (
        2 * (({"constrained-statements": _constrained(_ONE)[0]},),)
    ),
    "unknown member": _both(({"rows": 5},)),
    "unknown member below": _fixed(NONE, ({"tables": ["a"], "rows": 5},)),
    "statements without mode": _both(({"statements": [_ONE], "readOnly": True},)),
    "statements that write": _both(_constrained(_ONE, readOnly=False)),
    "two of one name": _both(_constrained(_ONE, _ONE)),
    "two of one index": _both(_constrained(_statement("one", (1, 1), (1, 2)))),
    "two objects": _both((*_TABLES, *_TABLES)),
    "selector": _selected("exact"),
    "selector of statements": lambda resource: (
        _constrained(_ONE),
        _selector("exact", _path_of(resource)),
    ),
}
