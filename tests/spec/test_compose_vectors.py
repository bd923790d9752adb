"""Tests of every vector in spec/vectors/compose, in Python and in the console."""

import json
from typing import Any

import pytest
from node_js import NODE_JS, NODE_JS_ABSENT, node_js
from tests_support import REPOSITORY

from tee_backend.measuring.compose_files import parse_compose

CASES: list[Any] = json.loads(
    (REPOSITORY / "spec" / "vectors" / "compose" / "lines.json").read_text("utf-8")
)["cases"]
DESCRIBE = """async (texts) => {
  const { describeCompose } = await import("/console/wire/compose.js");
  return texts.map((text) => describeCompose(text).lines.map(
    ({ place, sentence, value }) => [place, sentence, value]));
}"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_lines(case: Any) -> None:
    """The command line names what a file allows (AT71)."""
    compose = parse_compose(case["text"].encode(), file="compose.yaml", is_pinned=False)
    lines = [[line.place, line.sentence, line.value] for line in compose.lines]
    assert lines == case["expect"]["lines"]


def test_lines_of_the_console() -> None:
    """The console names the same lines (AT71, CN20)."""
    if NODE_JS is None:
        pytest.skip(NODE_JS_ABSENT)
    with node_js("http://127.0.0.1:9") as console:
        described = console.evaluate(DESCRIBE, [case["text"] for case in CASES])
    for case, lines in zip(CASES, described, strict=True):
        assert lines == case["expect"]["lines"], case["name"]
