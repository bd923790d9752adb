"""The kit against our node, in several settings."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engines import is_on_postgresql
from patience import PATIENCE_S
from sealspace_conformance.__main__ import main
from sealspace_conformance.catalogue import GROUPS, run_groups
from sealspace_conformance.report import FAILED, NOT_APPLICABLE, PASSED, Row

from node.config.tree import Hosting, Release

FEWEST_ROWS = 870


def rows_of(url: str, *only: str) -> list[Row]:
    run, is_node = asyncio.run(run_groups(url, only=only, timeout_s=PATIENCE_S))
    assert is_node
    return run.rows


def of(rows: list[Row], verdict: str) -> list[Row]:
    return [row for row in rows if row.verdict == verdict]


def test_every_row_passes(node_url: str) -> None:
    """Our node passes every row. Not applicable are accepted evidence, because the kit has no
    authority, and tasks, which are a runner's; on PostgreSQL, where there are no databases, also
    SQL."""
    rows = rows_of(node_url)
    assert of(rows, FAILED) == []
    other = {"sql"} if is_on_postgresql() else set()
    assert {row.group for row in of(rows, NOT_APPLICABLE)} == {
        "accepted-evidence",
        "kinds",
        "tasks",
        *other,
    }
    assert len(of(rows, NOT_APPLICABLE)) == 3 + len(other)
    assert len(rows) >= FEWEST_ROWS
    assert {row.group for row in rows} == {"contact", *GROUPS}


def test_json(node_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows are printed as JSON, with the number of each verdict."""
    assert main([node_url, "--json", "--only", "discovery"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["type"] == "sealspace.conformance/v1"
    assert document["summary"]["failed"] == 0
    assert document["summary"]["passed"] == len(document["rows"])
    assert {"rule", "asked", "expected", "seen", "verdict"} <= set(document["rows"][0])


def test_table(node_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has a line for each row, and a last one with the numbers."""
    assert main([node_url, "--only", "discovery"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["passed", "5.1", "GET", "/healthz"] for line in lines)
    assert "0 failed" in lines[-1]


def test_record(node_url: str, tmp_path: Path) -> None:
    """Every exchange is recorded as a line: the request, and the answer or why there is none."""
    place = tmp_path / "record.jsonl"
    assert main([node_url, "--only", "calls", "--record", str(place)]) == 0
    lines = [json.loads(line) for line in place.read_text("utf-8").splitlines()]
    assert lines[0]["request"] == {"method": "GET", "path": "/info", "headers": {}, "body": ""}
    assert lines[0]["answer"]["status"] == 200
    repeated = [one for one in lines if one["answer"]["status"] == 409]
    assert base64.b64decode(repeated[0]["answer"]["body"]) == b"duplicate invocation"
    assert "Authorization" in repeated[0]["request"]["headers"]
    assert {one["answer"]["failure"] for one in lines} == {""}


def test_a_record_that_exists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An existing file is not overwritten."""
    place = tmp_path / "record.jsonl"
    place.write_text("kept")
    assert main(["http://127.0.0.1:1", "--record", str(place)]) == 2
    assert "next:" in capsys.readouterr().err
    assert place.read_text() == "kept"


def test_hosting_by_grants(node_with: Callable[..., Any]) -> None:
    """A node that hosts by grants only is given some, and passes."""
    with node_with(hosting=Hosting(mode="explicit")) as url:
        rows = rows_of(url, "values", "owners-with-a-key", "conditions")
    assert of(rows, FAILED) == []
    assert "D40" in {row.rule for row in of(rows, PASSED)}
    assert of(rows, NOT_APPLICABLE) == []
    assert {"U7", "I39"} <= {row.rule for row in of(rows, PASSED)}


def test_no_strangers(node_with: Callable[..., Any]) -> None:
    """Rows that need a hosted space are not applicable on a node that hosts admitted owners."""
    with node_with(hosting=Hosting(mode="permit")) as url:
        rows = rows_of(url)
    assert of(rows, FAILED) == []
    whole = {row.group for row in of(rows, NOT_APPLICABLE) if not row.rule}
    assert {"values", "delegations", "networks", "releases", "sql"} <= whole
    assert {"no space of an unknown owner" in row.seen for row in rows if not row.rule} == {True}


@pytest.mark.parametrize("mode", ["everyone", "off"])
def test_modes_of_release(node_with: Callable[..., Any], mode: Any) -> None:
    """The kit expects of a node what its `/info` says about releases."""
    with node_with(release=Release(attestation=mode)) as url:
        rows = rows_of(url, "releases", "policies")
    assert of(rows, FAILED) == []
    assert (of(rows, NOT_APPLICABLE) != []) is True
