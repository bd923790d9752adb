"""The kit for clients, against the SDK and against commands that are no client."""

import asyncio
import os
import sys

import pytest
from conformance_kit.client_faults import CLIENT_FAULTS
from sealspace_conformance.__main__ import main
from sealspace_conformance.client_kit import run_client
from sealspace_conformance.fake_node import lies
from sealspace_conformance.report import FAILED, PASSED, Row
from tests_support import REPOSITORY

PROGRAM = REPOSITORY / "tests" / "conformance_kit" / "client_program.py"
PRINTS = "import os; print(os.environ['SEALSPACE_CONFORMANCE_VALUE'])"  # without asking the node


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client program finds the product and the faults."""
    places = [str(REPOSITORY), str(REPOSITORY / "tests")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))


def rows_of(*command: str, told: tuple[str, ...] = (), timeout_s: float = 60.0) -> list[Row]:
    return asyncio.run(run_client([sys.executable, *command], told=told, timeout_s=timeout_s))


@pytest.mark.slow
def test_the_sdk_refuses_every_lie() -> None:
    """The SDK passes every row; it is asked all of them (EN24, EN28, EN29, EN30)."""
    rows = rows_of(str(PROGRAM))
    assert [row for row in rows if row.verdict != PASSED] == []
    assert len(rows) == len(lies()) + 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", CLIENT_FAULTS)
def test_a_client_without_a_check_is_noticed(fault: str) -> None:
    """A client that leaves out one check fails the row about it."""
    asked = CLIENT_FAULTS[fault].asked
    rows = rows_of(str(PROGRAM), fault, told=(asked,))
    assert [(row.asked, row.verdict) for row in rows] == [
        ("true answers", PASSED),
        (asked, FAILED),
    ]


def test_a_command_that_asks_for_nothing() -> None:
    """Rows about answers for which a client did not ask are not applicable, and none passes."""
    rows = rows_of("-c", PRINTS, told=("another type",))
    assert [row.verdict for row in rows] == [PASSED, "not applicable"]


@pytest.mark.parametrize(
    ("program", "seen"),
    [
        ("import sys; sys.exit(3)", "status 3, did not print the value"),
        ("import sys; sys.stdin.read()", "status 0, did not print the value"),
        ("print('a' * 3_000_000)", "status 0, did not print the value"),
    ],
)
def test_a_command_that_is_no_client(program: str, seen: str) -> None:
    """A command that does not open the secret gets one row, and no lie is told."""
    (row,) = rows_of("-c", program)
    assert (row.verdict, row.seen) == (FAILED, seen)


def test_a_command_that_hangs() -> None:
    """A command that does not end is stopped, with what it started."""
    waiting = "import signal; signal.pause()"
    (row,) = rows_of("-c", waiting, timeout_s=0.5)
    assert (row.verdict, row.seen) == (FAILED, "the command did not end in time")


def test_a_command_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that cannot be started ends the kit with status 2."""
    assert main(["client", "--", "/nonexistent/client"]) == 2
    assert "next:" in capsys.readouterr().err
