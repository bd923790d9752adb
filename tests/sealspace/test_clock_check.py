"""A node does not start with an implausible clock (AT17)."""

from pathlib import Path

import pytest
from tests_support import FixedClock

from sealspace.cli.root import EXIT_STATUS, main
from sealspace.service import clock_check
from sealspace.service.clock_check import LONGEST_USE_S, MADE_AT, check_clock
from sealspace.service.command_errors import ClockWrong


def test_the_edge() -> None:
    """A clock before this version's build date is refused with both days."""
    check_clock(FixedClock(float(MADE_AT)))
    with pytest.raises(ClockWrong) as refused:
        check_clock(FixedClock(MADE_AT - 1.0))
    assert "2026-10-31" in refused.value.message and "2026-11-01" in refused.value.message
    assert refused.value.hint


def test_the_other_edge() -> None:
    """A clock over ten years after this version's build date is refused with both days."""
    check_clock(FixedClock(float(MADE_AT + LONGEST_USE_S)))
    with pytest.raises(ClockWrong) as refused:
        check_clock(FixedClock(MADE_AT + LONGEST_USE_S + 86_400.0))
    assert "2036-10-30" in refused.value.message and "2026-11-01" in refused.value.message
    assert "timedatectl" in refused.value.hint


@pytest.mark.parametrize("years", [100, -100])
@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_commands(
    tmp_path: Path,
    command: str,
    years: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`serve` refuses before it creates anything, and `doctor` reports it."""
    monkeypatch.setattr(clock_check, "MADE_AT", MADE_AT + years * 365 * 86_400)
    data = tmp_path / "data"
    status = main([command, "--data", str(data), *(("--port", "0") if command == "serve" else ())])
    reported = capsys.readouterr()
    assert status == (EXIT_STATUS["clock-wrong"] if command == "serve" else 1)
    assert (
        "this machine's clock shows" in reported.out + reported.err
        and "timedatectl" in reported.out + reported.err
    )
    assert not data.exists()
