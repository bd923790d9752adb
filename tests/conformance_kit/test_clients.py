"""The kit for clients, against the SDK and against commands that are no client."""

import asyncio
import sys
import time
from typing import Any

import pytest
from conformance_kit.client_faults import CLIENT_FAULTS
from forked_programs import forked_program
from sealspace_conformance.__main__ import main
from sealspace_conformance.client_kit import run_client
from sealspace_conformance.client_requests import Examination, Seen, examine, sign_in_faults
from sealspace_conformance.encodings import b64url, dag_cbor, from_dag_cbor
from sealspace_conformance.envelopes import new_receiver
from sealspace_conformance.fake_node import lies
from sealspace_conformance.keys import new_key, new_wallet
from sealspace_conformance.report import FAILED, NOT_APPLICABLE, PASSED, Row
from sealspace_conformance.tokens import SignIn, cacao, plain
from tests_support import REPOSITORY

EXAMINED = 13
PROGRAM = REPOSITORY / "tests" / "conformance_kit" / "client_program.py"
PRINTS = "import os; print(os.environ['SEALSPACE_CONFORMANCE_VALUE'])"  # without asking the node


def rows_of(*command: str, told: tuple[str, ...] = (), timeout_s: float = 60.0) -> list[Row]:
    return asyncio.run(run_client(command, told=told, timeout_s=timeout_s))


@pytest.mark.slow
def test_the_sdk_refuses_every_lie() -> None:
    """The SDK passes every row; it is asked all of them (EN24, EN28, EN29, EN30)."""
    rows = rows_of(forked_program("python"), str(PROGRAM))
    assert [row for row in rows if row.verdict != PASSED] == []
    assert len(rows) == len(lies()) + EXAMINED + 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", CLIENT_FAULTS)
def test_a_client_without_a_check_is_noticed(fault: str) -> None:
    """A client that leaves out one check fails the row about it."""
    asked = CLIENT_FAULTS[fault].asked
    rows = rows_of(forked_program("python"), str(PROGRAM), fault, told=(asked,))
    assert (rows[0].asked, rows[0].verdict) == ("true answers", PASSED)
    assert [row.asked for row in rows if row.verdict == FAILED] == [asked]


def test_a_command_that_asks_for_nothing() -> None:
    """Rows about answers for which a client did not ask are not applicable, and none passes."""
    rows = rows_of(sys.executable, "-c", PRINTS, told=("another type",))
    assert (rows[0].verdict, rows[-1].verdict) == (PASSED, NOT_APPLICABLE)
    # Nothing was sent, so nothing that was sent is wrong.
    assert {row.asked for row in rows[1:] if row.verdict == PASSED} == {
        "the secret's value",
        "tokens of calls",
        "content keys",
    }


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
    (row,) = rows_of(sys.executable, "-c", program)
    assert (row.verdict, row.seen) == (FAILED, seen)


def test_a_command_that_hangs() -> None:
    """A command that does not end is stopped, with what it started."""
    waiting = "import signal; signal.pause()"
    (row,) = rows_of(sys.executable, "-c", waiting, timeout_s=0.5)
    assert (row.verdict, row.seen) == (FAILED, "the command did not end in time")


def test_a_command_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that cannot be started ends the kit with status 2."""
    assert main(["client", "--", "/nonexistent/client"]) == 2
    assert "next:" in capsys.readouterr().err


def test_sign_ins_that_are_wrong() -> None:
    """What is wrong with a sign-in is named (C1, C5, S7, J4)."""
    wallet, session, now = new_wallet(), new_key(), time.time()

    def signed(**changes: Any) -> SignIn:
        contents: dict[str, Any] = {
            "wallet": wallet,
            "audience": session.url,
            "grants": {"tinycloud:x:y/kv": plain("tinycloud.kv/get")},
            "issued_at": now,
            "ends_at": now + 60,
        }
        return SignIn(**{**contents, **changes})

    forged = cacao(signed().payload(), new_wallet().sign("another text"))
    trailing = b64url(signed().sign().event_bytes + b"\0", padded=True)
    for token, faults in (
        (signed().sign().text, []),
        (forged.text, ["another wallet signed it"]),
        (trailing, ["it is not canonical DAG-CBOR"]),
        ("A", ["it is not base64url"]),
        (b64url(b"\xa0"), ["it has no payload or signature"]),
        (
            signed(audience=session.did).sign().text,
            ["it names the session's key without its fragment"],
        ),
        (
            signed(statement="Sign in.").sign().text,
            ["the statement does not end with what is granted"],
        ),
        (
            signed(extra={"iat": "2026-01-01T00:00:00Z"}).sign().text,
            ["its time is not UTC with milliseconds"],
        ),
    ):
        assert sign_in_faults(token) == faults


@pytest.mark.parametrize("path", ["/delegate", "/invoke", "/encryption/networks/x/decrypt"])
@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b.c", "é.é.é", "e30.W10.", "oA==", "gA", "A" * 5000, "oWFwoA==", "____"],
)
def test_requests_that_are_no_requests(path: str, token: str) -> None:
    """A client that sends anything else gets a row for each check."""
    seen = [
        Seen("POST", path, {}, {"Authorization": token}, body)
        for body in (b"", b"[]", b"\xff", b'{"encryptedSymmetricKey":7}', b"[" * 99_999)
    ]
    rows = examine(
        Examination(
            node="did:key:z", network_key=new_receiver(), value="v0" * 9, now=0.0, seen=seen
        )
    )
    assert len(rows) == EXAMINED
    assert not any("could not be read" in row.seen for row in rows)


def test_a_body_is_bounded_in_depth() -> None:
    """Nested CBOR is refused before it reaches the end of the stack."""
    assert from_dag_cbor(b"\x81" * 100_000 + b"\x01") is None
    assert from_dag_cbor(b"\xbf\xff") is None
    assert from_dag_cbor(dag_cbor({"a": [1, b"x", "é", 70_000, {}]})) == {
        "a": [1, b"x", "é", 70_000, {}]
    }
