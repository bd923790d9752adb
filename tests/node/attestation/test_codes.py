"""The codes that a refused session can have: in the specification's table with their status, and nowhere else."""

import inspect
import json
import re

import pytest
from aiohttp.test_utils import make_mocked_request
from attacks.parties import policy_for
from attestation_stage import Stay
from tests_support import REPOSITORY

from node.config import Collateral
from node.operations import attestation_errors
from node.operations.attestation_errors import AttestationRequestError
from node.problems import error_answer
from node.quotes import QuotesBusy
from tee_backend.attestation import errors
from tee_backend.attestation.errors import AttestationError
from tee_backend.evidence.simulated import SimulatedPlatform, measurements_of

PAGE = REPOSITORY / "spec" / "attestation.md"
# Families, of which only members are raised; and a certificate, of which the caller learns what it stood in.
NOT_SHOWN = {"attestation", "evidence_refused", "collateral", "attestation-request", "certificate_malformed"}
# Errors of the other routes of the same surface.
ELSEWHERE = {"document-unknown", "policy-not-in-person"}


def table() -> dict[str, int]:
    """Return the rows of AT7: code to status."""
    rows = re.findall(r"^\| (`[a-zA-Z_, `-]+`) \| (\d{3}) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    return {code: int(status) for codes, status in rows for code in re.findall(r"`([^`]+)`", codes)}


def raised() -> list[Exception]:
    """Return one of each error that the operation may raise."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AttestationError)]
    asked = [
        kind
        for _, kind in inspect.getmembers(attestation_errors, inspect.isclass)
        if issubclass(kind, AttestationRequestError)
    ]
    return [kind("canary") for kind in (*kinds, *asked)]


def test_the_table_says_what_is_answered() -> None:
    """Every error's status is the one of the table, and the table has no row that nothing answers (AT7)."""
    answered = {}
    for error in raised():
        reply = error_answer(make_mocked_request("POST", "/attestation/sessions"), error, own=True)
        assert isinstance(reply.body, bytes)
        problem = json.loads(reply.body)
        assert problem["code"] not in problem["title"]
        answered[problem["code"]] = reply.status
    shown = {code: status for code, status in answered.items() if code not in NOT_SHOWN | ELSEWHERE}
    assert shown == table()


def test_a_full_queue() -> None:
    """A queue that is full answers 503 and says when to come again (AT5)."""
    reply = error_answer(make_mocked_request("POST", "/attestation/sessions"), QuotesBusy(), own=True)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize("fetching", [Collateral(), Collateral(service_url="http://127.0.0.1:1")])
async def test_whose_fault_another_root_is(staying: Stay, platform: SimulatedPlatform, fetching: Collateral) -> None:
    """A quote under another root is the prover's, 403, with and without collateral of its family (AT7, AT12)."""
    stranger = SimulatedPlatform.from_seed(b"a root of somebody else", fmspc=platform.fmspc)
    async with staying(fetching=fetching) as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        nonce = await here.nonce(delegate.did)
        bound = here.report_data(delegate.did, delegate.receiver.public_key, nonce)
        quote = stranger.mint_quote(measurements_of("approved"), bound)
        reply = await here.hand_in(delegate, owner.network, nonce=nonce, quote=quote)
        assert (reply.status, reply.value["code"]) == (403, "untrusted_root")
