"""What the tests cost: seconds of the clock and of CPU for each folder and file.

`make costs` runs all tests of `make test` with this plugin, and writes its table into
`tests/README.md`.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from pages.marked import with_part

_PAGE = Path(__file__).parents[1] / "README.md"
_MOST_FILES = 40
_PROPERTY = "cpu_s"
_START = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes the table."""
    parser.addoption(
        "--write-costs", action="store_true", help="write what tests cost into tests/README.md"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Measure in each process, and collect in the one that gets all reports."""
    if config.option.write_costs:
        config.pluginmanager.register(_Costs())


class _Costs:
    """The measurements of one run."""

    def __init__(self) -> None:
        self._tests = Counter[str]()
        self._clock_s = defaultdict[str, float](float)
        self._cpu_s = defaultdict[str, float](float)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Note what was spent before a test."""
        item.stash[_START] = _cpu_s()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: "pytest.CallInfo[None]"
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.when == "teardown":
            report.user_properties.append((_PROPERTY, _cpu_s() - item.stash[_START]))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0]
        self._clock_s[file] += report.duration
        for name, value in report.user_properties:
            if name == _PROPERTY:
                self._tests[file] += 1
                self._cpu_s[file] += float(str(value))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        table = self._table()
        terminalreporter.write(table)
        _PAGE.write_text(with_part(_PAGE.read_text("utf-8"), "costs", table), "utf-8")

    def _table(self) -> str:
        """Return the folders, and the files that cost most, as a table."""
        folders = defaultdict[str, float](float)
        for file, cpu_s in self._cpu_s.items():
            folders[_folder_of(file)] += cpu_s
        rows = ["| | tests | CPU s | clock s |", "|---|---|---|---|"]
        rows.append(self._row("all", list(self._tests)))
        for folder in _dearest(folders):
            files = [file for file in self._tests if _folder_of(file) == folder]
            rows.append(self._row(f"`{folder}`", files))
        for file in _dearest(self._cpu_s)[:_MOST_FILES]:
            rows.append(self._row(f"`{file.removeprefix('tests/')}`", [file]))
        return "\n".join(rows) + "\n"

    def _row(self, name: str, files: list[str]) -> str:
        tests = sum(self._tests[file] for file in files)
        cpu_s = sum(self._cpu_s[file] for file in files)
        clock_s = sum(self._clock_s[file] for file in files)
        return f"| {name} | {tests:,} | {cpu_s:.0f} | {clock_s:.0f} |"


def _dearest(costs: dict[str, float]) -> list[str]:
    """Return names, the dearest first."""
    return sorted(costs, key=lambda name: -costs[name])


def _folder_of(file: str) -> str:
    """Return the folder of `tests` that a file is in."""
    return file.split("/")[1]


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of its processes that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
