"""What a caller is answered: in this runner's form for `POST /run`, in OutLayer's for `POST /call` (RN96).

Example:
    answer = run_answer(outcome)
    web.Response(status=answer.status, body=answer.body)
"""

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json

from ..reasons import REASONS, RunRefused
from .service import Outcome

# Where nothing ran; a run that failed is an answer like any other.
_STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "call-refused": 401,
        "key-refused": 401,
        "balance-too-low": 402,
        "request-slow": 408,
        "call-repeated": 409,
        "call-start": 409,
        "key-known": 409,
        "owner-unknown": 403,
        "key-in-clear": 403,
        "key-project": 403,
        "key-profile": 403,
        "generation-not-granted": 403,
        "secret-not-generated": 403,
        "network-unknown": 409,
        "access-denied": 403,
        "access-unknown": 403,
        "secrets-not-granted": 403,
        "grant-no-project": 403,
        "secret-missing": 403,
        "secret-refused": 403,
        "secret-unreadable": 503,
        "program-unknown": 404,
        "program-statement": 409,
        "program-older": 409,
        "input-too-large": 413,
        "too-many-calls": 429,
        "node-unavailable": 503,
        "keys-full": 503,
        "runner-busy": 503,
        "runner-closed": 503,
        "runner-failed": 503,
    }
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call."""

    status: int
    body: bytes = field(default=b"", repr=False)
    kept: AsyncGenerator[bytes, None] | None = field(default=None, repr=False)


def run_answer(outcome: Outcome) -> Answer:
    """Answer `POST /run`; output is JSON text already, so it is put in as it is."""
    facts, result = outcome.facts, outcome.result
    value: dict[str, Json] = {
        "job": facts.job,
        "status": "completed" if result.reason is None else "failed",
        "secrets": facts.secrets,
        "metrics": {"instructions": facts.instructions, "timeMs": facts.time_ms},
        "stderrBytes": result.stderr_bytes,
        "salt": encode_url(outcome.salt),
    }
    if outcome.is_shown and result.stderr:
        value["stderr"] = result.stderr.decode("utf-8", "replace")
    if result.reason is not None:
        value["error"] = _error(result.reason.code, result.detail)
    parts = [json.dumps(value).encode()[:-1], b', "receipt": ', outcome.receipt]
    if result.reason is None:
        parts += [b', "output": ', result.answer]
    return Answer(_status(outcome), b"".join((*parts, b"}")))


def api_answer(outcome: Outcome, *, charged: int) -> Answer:
    """Answer `POST /call`, in the members that OutLayer's clients read; money is decimal text."""
    facts, reason = outcome.facts, outcome.result.reason
    value: dict[str, Json] = {
        "call_id": facts.job,
        "job_id": facts.job,
        "status": "completed" if reason is None else "failed",
        "error": None if reason is None else _sentence(reason.code, outcome.result.detail),
        "code": None if reason is None else reason.code,
        "secrets": facts.secrets,
        "compute_cost": str(charged),
        "instructions": facts.instructions,
        "time_ms": facts.time_ms,
        "poll_url": None,
        "attestation_url": f"/attestations/{facts.job}",
        "salt": encode_url(outcome.salt),
    }
    output = b"null" if reason is not None else outcome.result.answer
    return Answer(_status(outcome), b"".join((json.dumps(value).encode()[:-1], b', "output": ', output, b"}")))


def pending(job: str, *, is_api: bool) -> Answer:
    """Answer for a job that has not ended."""
    named: dict[str, Json] = (
        {"call_id": job, "status": "pending", "poll_url": f"/calls/{job}"}
        if is_api
        else {"job": job, "status": "pending"}
    )
    return Answer(200, json.dumps(named).encode())


def refused(refusal: RunRefused, *, is_api: bool = False) -> Answer:
    """Answer a caller who is not known, cannot pay, or whose body cannot be read: no job, and no receipt."""
    code, detail = refusal.reason.code, refusal.detail
    value: dict[str, Json] = (
        {"error": _sentence(code, detail), "code": code}
        if is_api
        else {"status": "refused", "error": _error(code, detail)}
    )
    return Answer(_STATUS.get(code, 400), json.dumps(value).encode())


def status_of(code: str) -> int:
    """Return the status of HTTP for a reason for which nothing ran."""
    return _STATUS.get(code, 400)


def _status(outcome: Outcome) -> int:
    return 200 if outcome.ran or outcome.result.reason is None else _STATUS.get(outcome.result.reason.code, 400)


def _sentence(code: str, detail: str) -> str:
    return f"{REASONS[code].sentence} ({detail})" if detail else REASONS[code].sentence


def _error(code: str, detail: str) -> dict[str, Json]:
    said: dict[str, Json] = {"code": code, "message": REASONS[code].sentence}
    return said | ({"detail": detail} if detail else {})
