"""Helpers for all tests: reference vectors, fixed clock, reproducible random source, fuzz settings.

Tests that read the reference vectors are marked `shared`; in a checkout without them they are
skipped by name, and the number is printed at the end of the run.

Tests with `fuzz` in their name throw bytes at parsers: a short run in the suite, a long one where
the environment variable FUZZ_EXAMPLES says how many examples the quickest tests draw (`make fuzz`).
"""

import gc
import io
import json
import os
import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from engines import is_on_postgresql
from hypothesis import HealthCheck, settings
from own_process import refuse_limits_for_all
from postgres_server import PROGRAMS_ABSENT

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = (
    "capabilities",
    "door",
    "encryption_network",
    "node",
    "runner",
    "sealspace",
    "serving",
    "spaces",
    "tee_backend",
)
SHARED_VECTORS = Path(os.environ.get("REFERENCE_VECTORS", REPOSITORY.parent / "shared" / "vectors"))
VECTORS_ABSENT = "reference vectors are not beside this checkout"

FUZZ_VARIABLE = "FUZZ_EXAMPLES"
# Of a short run, and what an ordinary test takes of the number that is asked for: only the quickest
# take all of it.
_SHORT_EXAMPLES, _FEWEST_EXAMPLES = 50, 10
_ORDINARY_SHARE = 1 / 5
# No input may be pondered: far above what any example takes on a busy machine, far below what a
# quadratic reader takes.
_LONGEST_EXAMPLE = timedelta(seconds=5)

OUR_IMPORTS = {
    "PYTHONPATH": str(REPOSITORY),
    **{name: text for name, text in os.environ.items() if name == "PYTHONPYCACHEPREFIX"},
}
"""Variables of a process that imports our packages and has no other variable of this process. It
finds compiled modules, and does not compile all that it imports."""

# Below `nohup`, and as a job of a shell in the background, these are ignored, and then by every
# process of a test too.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _ended_by in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_ended_by, signal.SIG_DFL)

# No test trusts an authority of this machine: each names its own. Every process that imports
# aiohttp reads all that this file has, for a tenth of a second. So it has one certificate, whose
# key was thrown away: an S3 client refuses to start without any.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("unused_authority.pem"))
os.environ.pop("SSL_CERT_DIR", None)

settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get(FUZZ_VARIABLE, _SHORT_EXAMPLES / _ORDINARY_SHARE)),
    deadline=_LONGEST_EXAMPLE,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
# A busy machine makes no test fail: nothing is judged by the time it takes.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("fuzz" if FUZZ_VARIABLE in os.environ else "suite")


def fuzzed(share: float = _ORDINARY_SHARE) -> settings:
    """Return the settings of a fuzz test; an expensive test gets a small share of the examples."""
    profile = settings.get_profile("fuzz")
    return settings(
        profile, max_examples=max(_FEWEST_EXAMPLES, round(profile.max_examples * share))
    )


def shared_vectors(name: str) -> Path:
    """Return the path of a file or folder of the reference vectors; only for tests marked
    `shared`."""
    return SHARED_VECTORS / name


def json_lines(path: Path) -> Iterator[Any]:
    """Yield the objects of a file with one JSON object per line."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def coded(code: str) -> Callable[[Exception], bool]:
    """Return a check for `pytest.raises` that tests the code of an error."""
    return lambda error: getattr(error, "code", None) == code


def altered(value: Any, **changes: object) -> Any:
    """Return a copy of a frozen record with some fields replaced."""
    if hasattr(value, "_replace"):  # a named tuple
        return value._replace(**changes)
    return (
        msgspec.structs.replace(value, **changes)
        if isinstance(value, msgspec.Struct)
        else replace(value, **changes)
    )


class FixedClock:
    """A clock that changes only when it is moved."""

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
    """A clock that changes only when it is moved."""
    return FixedClock()


@pytest.fixture
def entropy() -> CountingEntropy:
    """A reproducible random source."""
    return CountingEntropy()


class Input:
    """Standard input as a program sees it: a pipe with a text, or a terminal."""

    def __init__(self, text: str = "", *, is_terminal: bool = False) -> None:
        self.buffer = io.BytesIO(text.encode())
        self._is_terminal = is_terminal
        self.before_yes: Callable[[], None] | None = None

    def isatty(self) -> bool:
        """Return whether the input is a terminal."""
        return self._is_terminal

    def readline(self, *_: int) -> str:
        """Return the next line, after the actions that happen before the user answers."""
        line = self.buffer.readline().decode()
        if line == "y\n" and self.before_yes is not None:
            self.before_yes()
        return line


def pytest_configure() -> None:
    """Refuse limits that would apply to the nodes of other tests."""
    refuse_limits_for_all()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests with garbage collection off, since nearly all objects stay alive.

    No later collection looks at them either: that would take half a second each time. The later
    ones are rare, since they take 4 % of the time of tests with the interpreter's thresholds.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that lack reference vectors, drop tests of other runs, and run slow tests
    first."""
    if not SHARED_VECTORS.is_dir():
        for item in items:
            if item.get_closest_marker("shared") is not None:
                item.add_marker(pytest.mark.skip(reason=VECTORS_ABSENT))
    if is_on_postgresql():
        ours = [item for item in items if starts_a_server(item)]
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if not starts_a_server(item)]
    # several processes: none is left alone with a long test at the end
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def starts_a_server(item: pytest.Item) -> bool:
    """Return whether a test uses a database of its own, whatever the run's engine."""
    return any(mark.kwargs.get("reason") == PROGRAMS_ABSENT for mark in item.iter_markers("skipif"))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests noted for whoever ran them, how many used PostgreSQL, and why tests failed.

    pytest cuts its own line of a failure to 80 columns, often before the cause.
    """
    passed = [
        report for report in terminalreporter.stats.get("passed", []) if report.when == "call"
    ]
    for report in passed:
        if "printed" in dict(report.user_properties):  # of a process whose own words nobody sees
            terminalreporter.write_line(str(dict(report.user_properties)["printed"]))
    if is_on_postgresql():
        ran = sum(len(terminalreporter.stats.get(outcome, [])) for outcome in ("passed", "failed"))
        terminalreporter.write_line(f"{ran} tests ran with their stores in PostgreSQL")
    for outcome in ("failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            lines = report.longreprtext.splitlines()
            causes = [line for line in lines if line.startswith("E  ")]
            for cause in causes[:3]:
                terminalreporter.write_line(cause[:200])
