"""The exception for each HTTP error, which says what it means (J8)."""

import re
from collections.abc import Mapping

import msgspec

from ..errors import (
    ActionNotAuthorized,
    DelegationRevoked,
    DuplicateRequest,
    NodeFailure,
    NodeRefused,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    RateLimited,
    ReleaseRefused,
    SpaceNotFound,
    TokenOutsideWindow,
    Unauthorized,
    ValueTooLarge,
)

_MAX_TEXT_CHARS = 2_000
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_REQUEST_ID = "TinyCloud-Trace-Id"
_HEX = re.compile(r"[0-9a-f]{32}", re.ASCII)
# I36: the resource runs to the last " / " before an ability of the tinycloud family or ours. Blanks around it are taken
# off afterwards: an expression that looks for them takes minutes for a text of blanks.
_UNAUTHORIZED_ACTION = re.compile(
    r"^Unauthorized Action:(?P<resource>.*)/\s*(?P<action>(?:tinycloud|sealspace)\.\S+)\s*$", re.MULTILINE
)
_REVOKED = re.compile(r"^delegation-(?:parent-|ancestor-)?revoked: (?:ancestor=)?(?P<cid>\w+)")
_RELEASE = re.compile(r"^release refused: (?P<reason>[\w-]+)")
_REPLAY_UNKNOWN = "duplicate invocation cannot be ruled out"
_AFTER_A_RESTORE = (
    "a node that was restored answers some minutes after the restore: wait and repeat; its start says from when on; "
    "else set the clocks of this machine and of the node"
)
_OUTSIDE_WINDOW = re.compile(
    r"expired or not yet valid|lifetime exceeds|^invocation expired|^invocation not yet valid|^Child delegation "
)


class _Problem(msgspec.Struct):
    """The members of a problem document (RFC 9457) that this client reads."""

    code: str = ""
    detail: str = ""
    title: str = ""
    hint: str = ""


def refusal_of(status: int, headers: Mapping[str, str], body: bytes, *, asked: str = "") -> NodeRefused:
    """Return the exception for an answer that is no success; total, whatever the bytes."""
    refusal = _refusal(status, headers, body, asked)
    after = headers.get("Retry-After", "")
    refusal.retry_after_s = float(after) if _SECONDS.fullmatch(after) else None
    request_id = headers.get(_REQUEST_ID, "")
    if _HEX.fullmatch(request_id):
        refusal.add_note(f"the node's log has this request as {request_id}")
    return refusal


def _refusal(status: int, headers: Mapping[str, str], body: bytes, asked: str) -> NodeRefused:
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/problem+json":
        problem = _problem(body)
        return _by_problem(status, problem, asked) if problem is not None else _by_status(status, "", asked)
    # A framework page is HTML for people; only its status means something.
    text = "" if kind == "text/html" else body[: 4 * _MAX_TEXT_CHARS].decode("utf-8", "replace")[:_MAX_TEXT_CHARS]
    if status in (401, 403):
        return _unauthorized(status, text.strip(), asked)
    return _by_status(status, text.strip(), asked)


def _problem(body: bytes) -> _Problem | None:
    try:
        return msgspec.json.decode(body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _by_problem(status: int, problem: _Problem, asked: str) -> NodeRefused:
    text = (problem.detail or problem.title or problem.code)[:_MAX_TEXT_CHARS]
    refusal = _unauthorized(status, text, asked) if status in (401, 403) else _by_status(status, text, asked)
    refusal.problem = problem.code[:100]
    if problem.hint:
        refusal.hint = refusal.step = problem.hint[:_MAX_TEXT_CHARS]
    return refusal


def _unauthorized(status: int, text: str, asked: str) -> Unauthorized:
    if match := _UNAUTHORIZED_ACTION.search(text):
        resource = match["resource"].strip()
        return ActionNotAuthorized(status, text, resource=resource, action=match["action"], asked=asked)
    if match := _REVOKED.search(text):
        return DelegationRevoked(status, text, cid=match["cid"], asked=asked)
    if match := _RELEASE.search(text):
        return ReleaseRefused(status, text, reason=match["reason"], asked=asked)
    if _OUTSIDE_WINDOW.search(text):
        return TokenOutsideWindow(status, text, asked=asked)
    return Unauthorized(status, text, asked=asked)


_BY_STATUS: Mapping[int, type[NodeRefused]] = {
    402: QuotaExceeded,
    409: DuplicateRequest,
    412: PreconditionFailed,
    413: ValueTooLarge,
    429: RateLimited,
}


def _by_status(status: int, text: str, asked: str) -> NodeRefused:
    if status in (401, 403):
        return Unauthorized(status, text, asked=asked)
    if status == 404:
        return (SpaceNotFound if text == "Space not found" else NotFound)(status, text, asked=asked)
    if status >= 500:
        return NodeFailure(status, text, asked=asked)
    refusal = _BY_STATUS.get(status, NodeRefused)(status, text, asked=asked)
    if text.startswith(_REPLAY_UNKNOWN):
        refusal.hint = refusal.step = _AFTER_A_RESTORE
    return refusal
