"""Tests of conditions on the callers of programs in the console, compared with the SDK (RN40)."""

import json
from typing import Any

from console_wire import in_page
from node_js import Scripts

from sealspace.documents.call_conditions import parse_condition
from sealspace.errors import InvalidInput

CONDITIONS: tuple[Any, ...] = (
    "AllowAll",
    {"Owner": {}},
    {"Owner": {"a": 1}},
    {"Whitelist": {"accounts": []}},
    {"Whitelist": {"accounts": ["did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"]}},
    {"Whitelist": {"accounts": ["did:key:z6Mk#z6Mk"]}},
    {"Whitelist": {"accounts": ["alice"]}},
    {"Whitelist": {"accounts": [1]}},
    {"Whitelist": {"accounts": [], "more": []}},
    {"AccountPattern": {"pattern": "did:pkh:.*"}},
    {"AccountPattern": {"pattern": "a" * 257}},
    {"AccountPattern": {"pattern": "\u00e4"}},
    {"AccountPattern": {"pattern": "a\nb"}},
    {"ValidUntil": {"until": "2030-01-01T00:00:00Z"}},
    {"ValidUntil": {"until": "2030-01-01t00:00:00.5+02:00"}},
    {"ValidUntil": {"until": "2030-02-29T00:00:00Z"}},
    {"ValidUntil": {"until": "2028-02-29T00:00:00Z"}},
    {"ValidUntil": {"until": "2030-01-01"}},
    {"ValidUntil": {"until": "2030-01-01T24:00:00Z"}},
    {"ValidUntil": {"until_ns": "9" * 20}},
    {"ValidUntil": {"until_ns": "9" * 21}},
    {"ValidUntil": {"until_ns": 1}},
    {"ValidUntil": {"until": "2030-01-01T00:00:00Z", "until_ns": "1"}},
    {"WasmHash": {"hash": "ab" * 32}},
    {"WasmHash": {"hash": "AB" * 32}},
    {"Logic": {"operator": "And", "conditions": []}},
    {"Logic": {"operator": "Xor", "conditions": []}},
    {"Logic": {"operator": "Or", "conditions": ["AllowAll", {"Nobody": {}}]}},
    {"Logic": {"operator": "Or", "conditions": [{"AccountPattern": {"pattern": "a"}}] * 16}},
    {"Logic": {"operator": "Or", "conditions": [{"AccountPattern": {"pattern": "a"}}] * 17}},
    {"Logic": {"operator": "Or", "conditions": [{"WasmHash": {"hash": "ab" * 32}}] * 300}},
    {"Not": {"condition": {"Owner": {}}}},
    {"Not": {}},
    {"DaoMember": {}},
    {"Nobody": {}},
    {"Owner": {}, "Not": {"condition": "AllowAll"}},
    {},
    [],
    None,
    "allowall",
    {"__proto__": {}},
    {"constructor": {}},
)


def test_CN11_conditions_are_read_as_the_sdk_reads_them(shared_scripts: Scripts) -> None:
    """The console accepts the same conditions as the SDK, to the same depth."""
    nested: list[Any] = []
    for depth in (31, 32):
        condition: Any = "AllowAll"
        for _ in range(depth):
            condition = {"Not": {"condition": condition}}
        nested.append(condition)
    cases = [*CONDITIONS, *nested]
    answers = in_page(
        shared_scripts,
        """
        const { parseCondition } = await at("call_conditions");
        return Promise.all(given.map((text) => caught(async () => {
          parseCondition(JSON.parse(text));
          return true;
        }).then((read) => read === true)));
        """,
        [json.dumps(one) for one in cases],
    )
    for condition, is_accepted in zip(cases, answers, strict=True):
        try:
            parse_condition(condition)
            expected = True
        except InvalidInput:
            expected = False
        assert is_accepted is expected, condition
