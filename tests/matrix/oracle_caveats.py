"""Caveats as plain JSON: what a token below a grant may state, and what a call has to meet.

Written from spec/capabilities.md §3.5 and spec/sql-caveats.md, without code of the product.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matrix.cases import Right
from matrix.caveat_pairs import Caveats
from matrix.oracle_places import Refused, contains, place_of

_SELECTOR = "xyz.tinycloud.resource/selector"
_UNKNOWN = "sql-caveat-unknown"
_WRITES = "sql-non-readonly-not-permitted"


def is_empty(caveats: Caveats) -> bool:
    """Return whether a list states no caveat (T2)."""
    return list(caveats) == [{}]


def is_equal(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal, also by their types."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def is_on_database(right: Right) -> bool:
    """Return whether a capability is on a database (D32)."""
    place = place_of(right.resource, ())
    is_sql = place is not None and place.service == "sql"
    return is_sql and right.ability.startswith("tinycloud.sql/")


def mentions_selector(caveats: Caveats) -> bool:
    """Return whether one of the objects is a selector, well-formed or not."""
    return any(one.get("type") == _SELECTOR for one in caveats)


def selector_of(caveats: Caveats) -> Mapping[str, Any] | None:
    """Return the selector of a list that is exactly one well-formed selector."""
    if len(caveats) != 1:
        return None
    (only,) = caveats
    if only.keys() != {"type", "kind", "value"} or only["type"] != _SELECTOR:
        return None
    is_known = only["kind"] in ("exact", "prefix") and isinstance(only["value"], str)
    return only if is_known else None


# --- between two tokens (3.5) -------------------------------------------------------------------


def check_delegated_caveats(held: Right, passed: Right) -> None:
    """Check the caveats of a delegation against those of its parent."""
    if mentions_selector(held.caveats) or mentions_selector(passed.caveats):
        outer, inner = selector_of(held.caveats), selector_of(passed.caveats)
        if outer is None or inner is None or not _selects_less(outer, inner):
            raise Refused("selector-caveat-not-contained")  # rule 1
        return
    _check_other_rules(held, passed, "child-caveats-not-subset-of-parent")


def check_invoked_caveats(held: Right, asked: Right) -> None:
    """Check the caveats of an invocation against those of its grant (I35)."""
    _check_other_rules(held, asked, "invocation-caveats-not-subset-of-chain")


def _selects_less(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> bool:
    if outer["kind"] == "exact" and inner["kind"] == "prefix":
        return False
    if outer["value"] == inner["value"]:
        return True
    return outer["kind"] == "prefix" and inner["value"].startswith(outer["value"] + "/")


def _check_other_rules(held: Right, stated: Right, last: str) -> None:
    if is_on_database(stated):  # rule 2
        outer, inner = limits_of(held.caveats), limits_of(stated.caveats)
        if isinstance(outer, dict) and isinstance(inner, dict) and _allows_less(outer, inner):
            return
    if is_equal([*held.caveats], [*stated.caveats]):  # rule 3
        return
    if is_empty(held.caveats):  # rule 4
        return
    raise Refused(last)  # rule 5


# --- met by a call (I39) ------------------------------------------------------------------------


def check_met(right: Right, names: Iterable[str]) -> None:
    """Check that a call meets the caveats that it states."""
    if is_empty(right.caveats):
        return
    if is_on_database(right) and not mentions_selector(right.caveats):
        return  # the statements meet it
    selector = selector_of(right.caveats)
    if selector is None:
        raise Refused("invocation-caveats-not-subset-of-chain: caveat-not-understood")
    selected = _selected(right, selector["value"])
    names = tuple(names)
    is_met = selected is not None and contains(selected, right.resource, names)
    if is_met and selector["kind"] == "exact":
        assert selected is not None
        is_met = contains(right.resource, selected, names)
    if not is_met:
        raise Refused("invocation-caveats-not-subset-of-chain: selector-caveat-not-met")


def _selected(right: Right, value: str) -> str | None:
    """Return the resource that a selector's value names, or None."""
    if value.startswith(("tinycloud:", "urn:")):
        return value
    place = place_of(right.resource, ())
    if place is None:
        return None
    return f"{right.resource.partition('/')[0]}/{place.service}/{value}"


# --- databases (SQ20, SQ28) ---------------------------------------------------------------------


def check_database_caveats(right: Right) -> None:
    """Check that the caveats of a capability on a database have a known form (D32)."""
    if not is_on_database(right) or mentions_selector(right.caveats):
        return
    limits = limits_of(right.caveats)
    if isinstance(limits, str):
        raise Refused(f"child-caveats-not-subset-of-parent: {limits}")


def limits_of(caveats: Caveats) -> dict[str, Any] | str:
    """Return what a caveat list limits, or the reason why it has no known form (SQ20)."""
    if is_empty(caveats):
        return {}
    if len(caveats) > 1:
        return _UNKNOWN
    stated: Any = caveats[0]
    is_constrained = "mode" in stated or "statements" in stated
    if stated.keys() == {"constrained-statements"}:
        stated, is_constrained = stated["constrained-statements"], True
    known = {"tables", "columns", "readOnly"} | (
        {"mode", "statements"} if is_constrained else set()
    )
    if not stated.keys() <= known:
        return _UNKNOWN
    if is_constrained and stated.get("mode") != "constrained-statements":
        return _UNKNOWN
    if not _are_distinct(stated.get("statements", [])):
        return _UNKNOWN
    if is_constrained and stated.get("readOnly") is not True:
        return _WRITES
    return dict(stated)


def _are_distinct(statements: Sequence[Mapping[str, Any]]) -> bool:
    names = [statement["name"] for statement in statements]
    if len(set(names)) < len(names):
        return False
    for statement in statements:
        indexes = [fixed["index"] for fixed in statement.get("fixedParams", [])]
        if len(set(indexes)) < len(indexes):
            return False
    return True


def _allows_less(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> bool:
    """Return whether limits allow no more than others (SQ28)."""
    if "mode" in outer:
        if "mode" not in inner:
            raise Refused("containment-caveat-required")
        _check_statements(outer["statements"], inner["statements"])
    for kind in ("tables", "columns"):
        if kind in outer and kind not in inner:
            return False
        if kind in outer and not set(inner[kind]) <= set(outer[kind]):
            return False
    return not outer.get("readOnly") or inner.get("readOnly") is True


def _check_statements(
    permitted: Sequence[Mapping[str, Any]], stated: Sequence[Mapping[str, Any]]
) -> None:
    texts = {one["name"]: one for one in permitted}
    for statement in stated:
        original = texts.get(statement["name"])
        if original is None or original["sql"] != statement["sql"]:
            raise Refused("containment-sql-statement-added")
        kept = {fixed["index"]: fixed["value"] for fixed in statement.get("fixedParams", [])}
        for fixed in original.get("fixedParams", []):
            if fixed["index"] not in kept:
                raise Refused("containment-sql-fixed-param-dropped")
            if not is_equal(fixed["value"], kept[fixed["index"]]):
                raise Refused("containment-sql-fixed-param-mismatch")
