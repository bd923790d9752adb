"""The answers of runners, which are untrusted."""

from collections.abc import Mapping
from contextlib import suppress

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import Json, JsonObject, parse_json, shaped

from ..documents.secret_names import is_secret_name
from ..errors import BackendAnswerInvalid, CallRefused
from ..printable import printable
from ..wire.transport import Answer

MAX_ANSWER_BYTES = 80_000_000
"""Longest answer of a run, bytes: 10 MB of output, each byte possibly escaped, and the other
members."""


def answer_object(answer: Answer) -> JsonObject:
    """Return the JSON object in an answer, whatever its status is.

    Raises:
        BackendAnswerInvalid: the body is not a JSON object.
    """
    try:
        return parse_json(answer.body, max_bytes=MAX_ANSWER_BYTES)
    except InvalidJson as exc:
        raise BackendAnswerInvalid("the runner's response is not a JSON object") from exc


def require_success(answer: Answer) -> JsonObject:
    """Return the JSON object in an answer, and refuse an answer that is not successful.

    Raises:
        CallRefused: the runner refused the request; the message has its text.
        BackendAnswerInvalid: the body is not a JSON object.
    """
    members = answer_object(answer)
    if not answer.is_success:
        raise call_refused(answer)
    return members


def call_refused(answer: Answer) -> CallRefused:
    """Return the error for an answer that is not successful.

    Raises:
        BackendAnswerInvalid: the body is not a JSON object.
    """
    members = answer_object(answer)
    return CallRefused(
        error_text(members.get("error"))[:600] or "the runner refused the request",
        hint="correct what the message names (a grant that is missing, has ended or is for another"
        " version: sealspace task grant), or ask the runner's operator",
    )


def error_text(error: Json) -> str:
    """Return the error message in a runner's response.

    The message is untrusted. It is empty if the response has none.
    """
    if not isinstance(error, dict):
        return ""
    texts = (error.get("message"), error.get("detail"))
    return ": ".join(text.rstrip(".") for text in texts if isinstance(text, str))


def error_code(error: Json) -> str | None:
    """Return the code of the error in a runner's response, or None if there is no error.

    The code is untrusted. It is "None" for an error without a code, which is still a failure.
    """
    if error is None:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    return printable(str(code))


def read_secret_names(members: Mapping[str, Json], member: str) -> tuple[str, ...]:
    """Read the member of a runner's response that is a list of names of secrets.

    Raises:
        BackendAnswerInvalid: there is no such member, or it is not a list of names.
    """
    with suppress(InvalidJson):
        names = shaped(members.get(member), tuple[str, ...])
        if all(is_secret_name(name) for name in names):
            return names
    raise BackendAnswerInvalid(f"the runner's response has no valid list `{member}`")
