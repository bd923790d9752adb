"""Rule T2, section 3.5 and rule I35: caveats."""

import pytest

from capabilities.capability_errors import CaveatRefused
from capabilities.caveats import caveats_of, check_delegated, check_invoked, same_json, selection_of
from capabilities.resources import parse_resource
from capabilities.strict_json import Json


def selector(kind, value, **more):
    return caveats_of(
        [{"type": "xyz.tinycloud.resource/selector", "kind": kind, "value": value, **more}]
    )


A = caveats_of([{"a": 1}])


def test_T2_stored_form():
    """A caveat list with one empty object is stored as no caveat, and other lists as a map by
    index."""
    assert caveats_of([{}]) == {}
    assert caveats_of([{"a": 1}, {"b": 2}]) == {"0": {"a": 1}, "1": {"b": 2}}
    assert caveats_of([{}, {}]) == {"0": {}, "1": {}}


@pytest.mark.parametrize(("parent", "child"), [({}, {}), ({}, A), (A, A)])
def test_3_5_rules_3_and_4_contained(parent, child):
    """A child may repeat its parent's caveats, or add caveats if the parent has none."""
    check_delegated(parent, child)
    check_invoked(parent, child)


@pytest.mark.parametrize(
    "child",
    [
        {},
        caveats_of([{"a": 2}]),
        caveats_of([{"a": 1.0}]),
        caveats_of([{"a": True}]),
        caveats_of([{"a": 1, "b": 2}]),
        caveats_of([{"a": 1}, {"a": 1}]),
        caveats_of([{}, {}]),
        caveats_of([{"a": [1]}]),
    ],
)
def test_3_5_rule_5_anything_but_a_repetition_is_refused(child):
    """A child that drops, changes, retypes or extends a caveat is rejected."""
    with pytest.raises(CaveatRefused) as caught:
        check_delegated(A, child)
    assert caught.value.text == "child-caveats-not-subset-of-parent"
    with pytest.raises(CaveatRefused) as caught:
        check_invoked(A, child)
    assert caught.value.text == "invocation-caveats-not-subset-of-chain"


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        (selector("prefix", "a"), selector("prefix", "a")),
        (selector("exact", "a"), selector("exact", "a")),
        (selector("prefix", "a"), selector("exact", "a")),
        (selector("prefix", "a"), selector("prefix", "a/b")),
        (selector("prefix", "a"), selector("exact", "a/b")),
    ],
)
def test_3_5_rule_1_selectors_contained(parent, child):
    """A prefix selector may be narrowed to a path below it."""
    check_delegated(parent, child)


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        (selector("exact", "a"), selector("prefix", "a")),
        (selector("exact", "a"), selector("exact", "a/b")),
        (selector("prefix", "a"), selector("prefix", "ab")),
        (selector("prefix", "a/b"), selector("prefix", "a")),
        (selector("prefix", "a"), {}),
        ({}, selector("prefix", "a")),
        (A, selector("prefix", "a")),
        (selector("prefix", "a", more=1), selector("prefix", "a", more=1)),
        (selector("other", "a"), selector("other", "a")),
        (selector("prefix", 1), selector("prefix", 1)),
        (selector(["prefix"], "a"), selector(["prefix"], "a")),
        ({**selector("prefix", "a"), "1": {"b": 1}}, {**selector("prefix", "a"), "1": {"b": 1}}),
    ],
)
def test_3_5_rule_1_selectors_not_contained(parent, child):
    """A selector is rejected if it is wider, malformed, or combined with another caveat."""
    with pytest.raises(CaveatRefused) as caught:
        check_delegated(parent, child)
    assert caught.value.text == "selector-caveat-not-contained"


def test_I35_an_invocation_repeats_a_selector_exactly():
    """An invocation has to repeat a selector exactly; narrowing is not accepted."""
    check_invoked(selector("prefix", "a"), selector("prefix", "a"))
    check_invoked({}, selector("prefix", "a"))
    with pytest.raises(CaveatRefused):
        check_invoked(selector("prefix", "a"), selector("exact", "a/b"))


SPACE = "tinycloud:key:z6MksVD6yzrjSyuHLgZvQhxvhVfGW4nmzZsYx31vYYYdSUJM:default"
NETWORK = (
    "urn:tinycloud:encryption:did:key:z6MksVD6yzrjSyuHLgZvQhxvhVfGW4nmzZsYx31vYYYdSUJM:default"
)


@pytest.mark.parametrize(
    ("caveats", "resource"),
    [
        ({}, f"{SPACE}/kv/secret.txt"),
        (selector("exact", "public.txt"), f"{SPACE}/kv/public.txt"),
        (selector("exact", f"{SPACE}/kv/public.txt"), f"{SPACE}/kv/public.txt"),
        (selector("exact", ""), f"{SPACE}/kv/"),
        (selector("prefix", "a"), f"{SPACE}/kv/a"),
        (selector("prefix", "a"), f"{SPACE}/kv/a/b"),
        (selector("prefix", "a/"), f"{SPACE}/kv/a/b"),
        (selector("prefix", f"{SPACE}/kv/a"), f"{SPACE}/kv/a/b"),
        (selector("prefix", f"{SPACE}/kv"), f"{SPACE}/kv/a/b"),
        (selector("exact", NETWORK), NETWORK),
        (selector("prefix", NETWORK), NETWORK),
    ],
)
def test_I39_what_a_selector_admits(caveats, resource):
    """A selector admits the selected resource and, for a prefix, all resources below it."""
    asked = parse_resource(resource)
    selection = selection_of(asked, caveats)
    assert selection is None or selection.is_exact == (caveats["0"]["kind"] == "exact")


@pytest.mark.parametrize(
    ("caveats", "resource"),
    [
        (selector("exact", "public.txt"), f"{SPACE}/kv/secret.txt"),
        (selector("exact", "public.txt"), f"{SPACE}/kv/public.txt/x"),
        (selector("exact", "public.txt"), f"{SPACE}/kv"),
        (selector("exact", f"{SPACE}/kv/public.txt"), f"{SPACE}/sql/public.txt"),
        (selector("exact", f"{SPACE}2/kv/public.txt"), f"{SPACE}/kv/public.txt"),
        (selector("exact", f"{SPACE}/kv"), f"{SPACE}/kv/a"),
        (selector("exact", "tinycloud://default/kv/a"), f"{SPACE}/kv/a"),
        (selector("exact", "tinycloud:"), f"{SPACE}/kv/a"),
        (selector("prefix", "a"), f"{SPACE}/kv/ab"),
        (selector("prefix", "a"), f"{SPACE}/kv"),
        (selector("prefix", ""), f"{SPACE}/kv/a"),
        (selector("prefix", "a"), f"{SPACE}/kv/a#part"),
        (selector("exact", "default"), NETWORK),
        (selector("exact", f"{NETWORK}2"), NETWORK),
    ],
)
def test_I39_what_a_selector_does_not_admit(caveats, resource):
    """A selector rejects every other resource."""
    with pytest.raises(CaveatRefused) as caught:
        selection_of(parse_resource(resource), caveats)
    assert caught.value.text == "selector-caveat-not-met"


@pytest.mark.parametrize(
    "caveats",
    [
        A,
        caveats_of([{}, {}]),
        selector("exact", "a", more=1),
        selector("other", "a"),
        selector("exact", 1),
        caveats_of(
            [{"type": "xyz.tinycloud.resource/selector", "kind": "exact", "value": "a"}, {"b": 1}]
        ),
        caveats_of(
            [{"type": "xyz.tinycloud.resource/selector", "kind": "exact", "value": "a"}] * 2
        ),
    ],
)
def test_I39_what_nobody_understands_is_not_run(caveats):
    """A call with a caveat that is not a selector is rejected."""
    with pytest.raises(CaveatRefused) as caught:
        selection_of(parse_resource(f"{SPACE}/kv/a"), caveats)
    assert caught.value.text == "caveat-not-understood"


def test_same_json_tells_types_apart():
    """1, 1.0 and true are different values; the order of members does not count."""
    assert same_json({"a": 1, "b": [None, "x"]}, {"b": [None, "x"], "a": 1})
    others: list[Json] = [1.0, True, "1", None, [1]]
    assert not any(same_json(1, other) for other in others)
    assert not same_json([1, 2], [2, 1])
    for other in (1.0, True):
        assert not same_json([1], [other])
        assert not same_json({"a": [1]}, {"a": [other]})
        assert not same_json([{"a": 1}], [{"a": other}])
    assert not same_json({"a": 1}, {"b": 1})
