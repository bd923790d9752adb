"""JSON responses to program calls.

`POST /run` has its own format. `POST /call` has OutLayer's format (RN96).

Example:
    answer = run_answer(outcome)
    web.Response(status=answer.status, body=answer.body)
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import field
from typing import Any

import msgspec

from capabilities.frozen import frozen
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import JsonObject

from ..reasons import Reason
from .run import Outcome
from .task_stages import APP, POST, PRE


@frozen
class Answer:
    """An HTTP response to a program call.

    For a stored response, `kept` yields the body in pieces, and `body` is empty.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    kept: AsyncGenerator[bytes, None] | None = field(default=None, repr=False)


def run_answer(outcome: Outcome, **more: object) -> Answer:
    """Return the `POST /run` response for a finished program run, with further members."""
    facts, result = outcome.facts, outcome.result
    value: dict[str, object] = {
        "job": facts.job,
        "status": "completed" if result.reason is None else "failed",
        "secrets": facts.secrets,
        "metrics": {"instructions": facts.instructions, "timeMs": facts.time_ms},
        "salt": encode_url(outcome.salt),
        "receipt": msgspec.Raw(outcome.receipt),
    } | more
    if not result.is_stderr_private:  # RN85: the length alone tells how far a program came
        value["stderrBytes"] = result.stderr_bytes
    if result.stderr:
        value["stderr"] = result.stderr.decode("utf-8", "replace")
    if result.stdout:
        value["stdout"] = result.stdout.decode("utf-8", "replace")
    if result.answer:  # also of a program that failed by itself (RN263)
        value["output"] = msgspec.Raw(result.answer)
    if result.answer_format is not None:
        value["outputFormat"] = result.answer_format.value
    if result.reason is not None:
        value["error"] = error_of(result.reason)
    return answer_with(value, result.reason)


def task_answer(outcome: Outcome) -> Answer:
    """Return the `GET /tasks` response for a task that has ended (TK8)."""
    reason = outcome.result.reason
    if reason is None:
        return run_answer(outcome, state="COMPLETED")
    stage = APP
    for other in (PRE, POST):
        if reason.code.startswith(other):  # iExec's codes begin with the stage
            stage = other
    return run_answer(outcome, state="FAILED", cause=error_of(reason) | {"stage": stage})


def api_call(outcome: Outcome, *, charged: int) -> dict[str, Any]:
    """Return the members of a `POST /call` response, except the program's output and the salt.

    They have OutLayer's format. The amount charged is a decimal string.
    """
    facts, result = outcome.facts, outcome.result
    return {
        "call_id": facts.job,
        "job_id": facts.job,
        "project_id": facts.project,
        "created_at": facts.at,
        "status": "completed" if result.reason is None else "failed",
        "error": None if result.reason is None else _sentence(result.reason),
        "code": facts.code,
        "secrets": facts.secrets,
        "compute_cost": str(charged),
        "instructions": facts.instructions,
        "time_ms": facts.time_ms,
        "poll_url": None,
        "attestation_url": f"/attestations/{facts.job}",
        # Empty for a run with secrets: the holder of a key is not their owner in person (RN234).
        "stderr": result.stderr.decode("utf-8", "replace"),
    }


def api_answer(outcome: Outcome, *, charged: int) -> Answer:
    """Return the `POST /call` response for a finished program run."""
    result = outcome.result
    # RN263: a program that failed by itself has output too
    output = msgspec.Raw(result.answer) if result.answer else None
    rest = {"salt": encode_url(outcome.salt), "output": output}
    if result.answer_format is not None:
        rest["output_format"] = result.answer_format.value
    return answer_with(api_call(outcome, charged=charged) | rest, result.reason)


def pending(job: str, *, is_api: bool) -> Answer:
    """Return the response for an unfinished job."""
    named = {"call_id": job, "poll_url": f"/calls/{job}"} if is_api else {"job": job}
    return answer_with({"status": "pending", **named})


def pending_task(job: str, stage: str | None) -> Answer:
    """Return the response for an unfinished task; without a stage, it has not started (TK8)."""
    if stage is None:
        state = "UNSET"
    elif stage == POST:
        state = "REVEALING"
    else:
        state = "ACTIVE"
    return answer_with({"status": "pending", "job": job, "state": state, "stage": stage})


def refused(reason: Reason) -> Answer:
    """Return the error response for a refused call.

    The call was refused before a job existed, so there is no receipt.
    """
    return answer_with({"status": "refused", "error": error_of(reason)}, reason)


def api_refused(reason: Reason) -> Answer:
    """Return the response for a refused call, in the OutLayer API's format."""
    return answer_with({"error": _sentence(reason), "code": reason.code}, reason)


def answer_with(members: Mapping[str, object], reason: Reason | None = None) -> Answer:
    """Return a JSON response with the given fields.

    The HTTP status is that of `reason`, or 200 without a reason.
    """
    return Answer(200 if reason is None else reason.status, msgspec.json.encode(members))


def error_of(reason: Reason) -> JsonObject:
    """Convert a failure reason to a JSON object."""
    error: JsonObject = {"code": reason.code, "message": reason.sentence}
    if reason.detail:
        error["detail"] = reason.detail
    return error


def _sentence(reason: Reason) -> str:
    """Return the sentence of a reason, which ends with the detail if there is one."""
    if not reason.detail:
        return reason.sentence
    return f"{reason.sentence.removesuffix('.')}: {reason.detail}"
