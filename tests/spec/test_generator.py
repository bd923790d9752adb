"""Tests that the generator writes the stored vectors byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests_support import REPOSITORY
from vector_generator import write_vectors

VECTORS = REPOSITORY / "spec" / "vectors"


def _contents(folder: Path) -> dict[str, bytes]:
    files = (
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "README.md"
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_generator_writes_what_is_kept(tmp_path: Path) -> None:
    """A run of the generator writes exactly the files of spec/vectors."""
    write_vectors(tmp_path)
    made, kept = _contents(tmp_path), _contents(VECTORS)
    assert sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == [], (
        "run: python tools/vector_generator.py"
    )


def test_a_run_removes_what_is_no_longer_made(tmp_path: Path) -> None:
    """A run removes files that are no longer generated, except the README."""
    (tmp_path / "old.json").write_text("{}")
    (tmp_path / "README.md").write_text("by hand")
    write_vectors(tmp_path)
    assert not (tmp_path / "old.json").exists()
    assert (tmp_path / "README.md").exists()


@pytest.mark.parametrize("path", sorted(VECTORS.rglob("*.json")), ids=lambda path: path.name)
def test_cases_say_what_they_are(path: Path) -> None:
    """Each case has a unique name, rules and an expectation, and only failing cases end in
    `_fail`."""
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    cases = document["cases"]
    assert len(cases) == len({case["name"] for case in cases}) > 0
    for case in cases:
        fails = any("code" in member or member == "error" for member in case["expect"]) or case[
            "expect"
        ].get("refusal")
        assert bool(fails) == case["name"].endswith("_fail"), case["name"]
        assert case["rules"]


def test_every_file_is_described() -> None:
    """README.md of the vectors names each file or its folder."""
    text = (VECTORS / "README.md").read_text("utf-8")
    for name in _contents(VECTORS):
        listed = name if name.endswith(".json") else "capabilities/identifiers/*.txt"
        assert f"`{listed}`" in text, name
