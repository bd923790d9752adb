"""JSON responses to `POST /run`, and to `POST /call` in OutLayer's format (RN96).

Example:
    answer = run_answer(outcome)
    web.Response(status=answer.status, body=answer.body)
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

import msgspec

from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json

from ..reasons import Reason
from .service import Outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """HTTP status and body of a response to a call.

    For a stored response, `kept` yields the body in pieces, and `body` is empty.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    kept: AsyncGenerator[bytes, None] | None = field(default=None, repr=False)


def run_answer(outcome: Outcome) -> Answer:
    """Return the `POST /run` response for a finished run, with the program's output as raw JSON."""
    facts, result = outcome.facts, outcome.result
    value: dict[str, object] = {
        "job": facts.job,
        "status": "completed" if result.reason is None else "failed",
        "secrets": facts.secrets,
        "metrics": {"instructions": facts.instructions, "timeMs": facts.time_ms},
        "stderrBytes": result.stderr_bytes,
        "salt": encode_url(outcome.salt),
        "receipt": msgspec.Raw(outcome.receipt),
    }
    if result.stderr:
        value["stderr"] = result.stderr.decode("utf-8", "replace")
    if result.reason is None:
        value["output"] = msgspec.Raw(result.answer)
    else:
        value["error"] = error_of(result.reason)
    return answer_with(value, result.reason)


def api_answer(outcome: Outcome, *, charged: int) -> Answer:
    """Return the `POST /call` response for a finished run, in OutLayer's format.

    The amount charged is a decimal string.
    """
    facts, result = outcome.facts, outcome.result
    value = {
        "call_id": facts.job,
        "job_id": facts.job,
        "status": "completed" if result.reason is None else "failed",
        "error": None if result.reason is None else _sentence(result.reason),
        "code": facts.code,
        "secrets": facts.secrets,
        "compute_cost": str(charged),
        "instructions": facts.instructions,
        "time_ms": facts.time_ms,
        "poll_url": None,
        "attestation_url": f"/attestations/{facts.job}",
        "salt": encode_url(outcome.salt),
        "output": None if result.reason is not None else msgspec.Raw(result.answer),
    }
    return answer_with(value, result.reason)


def pending(job: str, *, is_api: bool) -> Answer:
    """Return the response for a job that has not ended yet."""
    named = {"call_id": job, "poll_url": f"/calls/{job}"} if is_api else {"job": job}
    return answer_with({"status": "pending", **named})


def refused(reason: Reason) -> Answer:
    """Return a response without a receipt, for a call that was refused before a job existed."""
    return answer_with({"status": "refused", "error": error_of(reason)}, reason)


def api_refused(reason: Reason) -> Answer:
    """Return a response for a refused call. The JSON body has OutLayer's format."""
    return answer_with({"error": _sentence(reason), "code": reason.code}, reason)


def answer_with(members: Mapping[str, object], reason: Reason | None = None) -> Answer:
    """Return a JSON response with HTTP status 200, or with the status of `reason`."""
    return Answer(200 if reason is None else reason.status, msgspec.json.encode(members))


def error_of(reason: Reason) -> dict[str, Json]:
    """Convert a failure reason to the JSON object for the `error` member of a response."""
    error: dict[str, Json] = {"code": reason.code, "message": reason.sentence}
    return error | ({"detail": reason.detail} if reason.detail else {})


def _sentence(reason: Reason) -> str:
    return f"{reason.sentence} ({reason.detail})" if reason.detail else reason.sentence
