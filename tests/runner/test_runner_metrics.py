"""The metrics of a runner (RN296)."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests_support import REPOSITORY

from runner.calls.ended_calls import COMPLETED, OUTCOMES, TASK_STAGE, EndedCalls
from runner.http.runner_metrics import SERIES, RunnerSeries
from runner.reasons import REASONS

PAGE = (REPOSITORY / "spec" / "operations" / "runner.md").read_text("utf-8")


def names(series: Sequence[RunnerSeries]) -> set[str]:
    return {one.name for one in series}


def test_labels_are_from_lists() -> None:
    """RN296: every value of a label is in the code, so callers cannot add series."""
    assert len(names(SERIES)) == len(SERIES)
    for one in SERIES:
        assert bool(one.label) == (one.values != ("",))
        assert len(set(one.values)) == len(one.values)
    assert set(OUTCOMES) == {COMPLETED, TASK_STAGE, *REASONS}


def test_ended_calls_are_counted() -> None:
    """RN296: codes of task stages, which are not in the list of reasons, count as one outcome."""
    ended = EndedCalls()
    ended.add(None, instructions=5, time_ms=10, charged=3)
    ended.add("interrupted", instructions=0, time_ms=0, charged=0)
    ended.add("PRE_COMPUTE_TIMEOUT", instructions=1, time_ms=10, charged=4)
    assert ended.outcomes == {COMPLETED: 1, "interrupted": 1, TASK_STAGE: 1}
    assert (ended.instructions, ended.time_ms, ended.charged) == (6, 20, 7)


def test_the_page_lists_every_series() -> None:
    """RN296: the page has each series with its type and its label, and advice for each."""
    advice, _, generated = PAGE.partition("<!-- generated: runner-series")
    rows = re.findall(r"^\| `(sealspace_runner_\w+)` \| (\w+) \| ([^|]*)\|", generated, re.M)
    assert {(name, kind) for name, kind, _ in rows} == {(one.name, one.kind) for one in SERIES}
    assert set(re.findall(r"^\| `(sealspace_runner_\w+)`", advice, re.M)) == names(SERIES)
    alerts = set(re.findall(r"sealspace_runner_\w+", advice))
    assert alerts == names(SERIES)


@pytest.mark.parametrize("series", SERIES, ids=lambda one: one.name)
def test_a_parser_reads_each_series(series: RunnerSeries) -> None:
    """Each help text is a sentence, and each family has a sample for each value of its label."""
    family = series.family({(series.name, value): 1.0 for value in series.values})
    assert family.documentation.endswith(".")
    assert len(family.samples) == len(series.values)
    assert {sample.name for sample in family.samples} == {series.name}


def test_the_node_s_parser_takes_the_names(tmp_path: Path) -> None:
    """Prometheus' own parser takes names and labels of all series."""
    lines = []
    for one in SERIES:
        for value in one.values:
            label = f'{{{one.label}="{value}"}}' if one.label else ""
            lines.append(f"{one.name}{label} 1.0")
    families = [*text_string_to_metric_families("\n".join(lines) + "\n")]
    assert sum(len(family.samples) for family in families) == len(lines)
