"""What a caller is answered: in this runner's form for `POST /run`, in OutLayer's for `POST /call` (RN96).

Example:
    answer = run_answer(outcome)
    web.Response(status=answer.status, body=answer.body)
"""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json

from ..reasons import Reason, RunRefused
from .service import Outcome


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
    if result.stderr:
        value["stderr"] = result.stderr.decode("utf-8", "replace")
    if result.reason is not None:
        value["error"] = error_of(result.reason, result.detail)
    parts = [json.dumps(value).encode()[:-1], b', "receipt": ', outcome.receipt]
    if result.reason is None:
        parts += [b', "output": ', result.answer]
    return Answer(_status(result.reason), b"".join((*parts, b"}")))


def api_answer(outcome: Outcome, *, charged: int) -> Answer:
    """Answer `POST /call`, in the members that OutLayer's clients read; money is decimal text."""
    facts, result = outcome.facts, outcome.result
    value: dict[str, Json] = {
        "call_id": facts.job,
        "job_id": facts.job,
        "status": "completed" if result.reason is None else "failed",
        "error": None if result.reason is None else _sentence(result.reason, result.detail),
        "code": facts.code,
        "secrets": facts.secrets,
        "compute_cost": str(charged),
        "instructions": facts.instructions,
        "time_ms": facts.time_ms,
        "poll_url": None,
        "attestation_url": f"/attestations/{facts.job}",
        "salt": encode_url(outcome.salt),
    }
    output = b"null" if result.reason is not None else result.answer
    parts = json.dumps(value).encode()[:-1], b', "output": ', output, b"}"
    return Answer(_status(result.reason), b"".join(parts))


def pending(job: str, *, is_api: bool) -> Answer:
    """Answer for a job that has not ended."""
    named = {"call_id": job, "poll_url": f"/calls/{job}"} if is_api else {"job": job}
    return Answer(200, json.dumps({"status": "pending", **named}).encode())


def refused(refusal: RunRefused) -> Answer:
    """Answer a caller who is not known, cannot pay, or whose body cannot be read: no job, and no receipt."""
    said = {"status": "refused", "error": error_of(refusal.reason, refusal.detail)}
    return Answer(refusal.reason.status, json.dumps(said).encode())


def api_refused(refusal: RunRefused) -> Answer:
    """Answer as `refused`, in the members that OutLayer's clients read."""
    said = {"error": _sentence(refusal.reason, refusal.detail), "code": refusal.reason.code}
    return Answer(refusal.reason.status, json.dumps(said).encode())


def error_of(reason: Reason, detail: str) -> dict[str, Json]:
    """Return what an answer says about a reason."""
    said: dict[str, Json] = {"code": reason.code, "message": reason.sentence}
    return said | ({"detail": detail} if detail else {})


def _status(reason: Reason | None) -> int:
    return 200 if reason is None else reason.status


def _sentence(reason: Reason, detail: str) -> str:
    return f"{reason.sentence} ({detail})" if detail else reason.sentence
