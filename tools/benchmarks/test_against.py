"""The comparison with an earlier commit runs, and its ratios and bounds are right."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from against import FRESH, MIXTURE, OPERATIONS, START, USED, Comparison, Row, dearer, printed
from installed_commit import NotInstalled, commit_of, install
from paired_ratios import Ratio, rank_of_bound, ratio_of

HERE = Path(__file__).parent


@pytest.mark.slow
def test_a_comparison_with_the_newest_commit() -> None:
    """All operations are measured on both versions, on both kinds of store, and each has a
    ratio."""
    command = [sys.executable, str(HERE / "requests_per_cpu.py"), "--against", "HEAD", "--json"]
    amount = ["--rounds", "1", "--requests", "8", "--connections", "2", "--pause", "0"]
    done = subprocess.run(
        [*command, *amount], capture_output=True, text=True, cwd=HERE.parents[1], timeout=500
    )
    # With so few requests an operation may seem dearer than it was, which is what status 1 says.
    assert done.returncode == ("dearer than at the commit" in done.stderr), done.stderr
    figures = json.loads(done.stdout)
    found = [(row["operation"], row["store"]) for row in figures["rows"]]
    expected = [(name, FRESH) for name in OPERATIONS]
    expected += [(name, USED) for name in (*OPERATIONS, MIXTURE, START)]
    assert expected == found
    assert commit_of("HEAD") == figures["commit"]
    assert all(row["ratio"]["median"] > 0 for row in figures["rows"])


def test_an_unknown_commit() -> None:
    """A commit that is not in the repository is named in the error."""
    with pytest.raises(NotInstalled, match="no commit no-such-branch"):
        commit_of("no-such-branch")


def test_an_interrupted_installation_is_repeated(tmp_path: Path) -> None:
    """A folder without the mark of a finished installation is replaced; here git fails first."""
    place = tmp_path / ("0" * 40)
    (place / "venv" / "bin").mkdir(parents=True)
    (place / "venv" / "bin" / "sealspace").touch()
    with pytest.raises(NotInstalled):
        install("0" * 40, tmp_path)
    assert not (place / "venv").exists()
    (place / "installed").touch()
    assert place / "venv" / "bin" / "sealspace" == install("0" * 40, tmp_path)


@pytest.mark.parametrize(("rounds", "rank"), [(5, 0), (6, 1), (8, 1), (9, 2), (10, 2), (20, 6)])
def test_ranks_of_the_bounds(rounds: int, rank: int) -> None:
    """The ranks are those of tables of the sign test at 95 %."""
    assert rank == rank_of_bound(rounds)


def test_the_ratio_of_paired_rounds() -> None:
    """Each round is compared with its own pair, and one disturbed round changes no bound."""
    then = [100.0 * (1 + turn) for turn in range(10)]
    now = [cost * (1.1 + turn / 1000) for turn, cost in enumerate(then)]
    ratio = ratio_of(now, then)
    assert (1.1045, 1.101, 1.108) == pytest.approx((ratio.median, ratio.low, ratio.high))
    now[9] *= 50
    assert ratio == ratio_of(now, then)


def test_too_few_rounds_have_no_interval() -> None:
    """With five rounds no interval has 95 % confidence."""
    assert Ratio(2.0, 0.0, math.inf) == ratio_of([2.0] * 5, [1.0] * 5)


SLOWER = Row("get 1 KiB", USED, 120.0, 100.0, Ratio(1.2, 1.1, 1.3))
COMPARISON = Comparison("0" * 40, 10, (0.5, 1.0), (SLOWER,))


def test_what_counts_as_dearer() -> None:
    """An operation is dearer if its whole interval is above 1; with too few rounds none is."""
    uncertain = replace(SLOWER, ratio=Ratio(1.2, 0.99, 1.3))
    too_few = replace(SLOWER, ratio=ratio_of([2.0], [1.0]))
    missing = replace(SLOWER, then_us=None, ratio=None)
    rows = (SLOWER, uncertain, too_few, missing)
    (line,) = dearer(replace(COMPARISON, rows=rows))
    assert "get 1 KiB, used store: +20.0% (+10.0% to +30.0%)" == line


def test_the_table() -> None:
    """Ratios have their bounds; an operation that the commit does not have is not available."""
    missing = replace(SLOWER, operation="sql", then_us=None, ratio=None)
    lines = list(printed(replace(COMPARISON, rows=(SLOWER, missing))))
    assert "get 1 KiB used 120 100 1.200 1.100 1.300" == " ".join(lines[2].split())
    assert "sql used 120 n/a" == " ".join(lines[3].split())
