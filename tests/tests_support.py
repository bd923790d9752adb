"""What every test may use: the reference vectors beside the checkout, a clock and a random source that stand still.

Tests that read the reference vectors are marked `shared`; in a checkout without them they are skipped by name, and the
number is printed at the end of the run.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_VECTORS = REPOSITORY.parent / "shared" / "vectors"


def shared_vectors(name: str) -> Path:
    """Return the path of a file or folder of the reference vectors; only for tests marked `shared`."""
    return SHARED_VECTORS / name


def json_lines(path: Path) -> Iterator[Any]:
    """Yield the objects of a file that holds one JSON object a line."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        """Return the time that was set."""
        return self.time

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.time += seconds


class CountingEntropy:
    """A reproducible random source: BLAKE3 of a seed and a counter."""

    def __init__(self, seed: bytes = b"tests") -> None:
        self._seed = seed
        self._count = 0

    def token(self, size_bytes: int) -> bytes:
        """Return the next `size_bytes` bytes of the stream."""
        self._count += 1
        return blake3(self._seed + self._count.to_bytes(8, "big")).digest(length=size_bytes)


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands still until it is moved."""
    return FixedClock()


@pytest.fixture
def entropy() -> CountingEntropy:
    """A reproducible random source."""
    return CountingEntropy()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by name what needs the reference vectors where they are absent."""
    if SHARED_VECTORS.is_dir():
        return
    for item in items:
        if item.get_closest_marker("shared") is not None:
            item.add_marker(pytest.mark.skip(reason="reference vectors are not beside this checkout"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tests were left out for want of the reference vectors."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "reference vectors" in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests skipped: reference vectors are not beside this checkout")
