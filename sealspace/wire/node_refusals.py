"""Conversion of HTTP errors to exceptions (J8)."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from ..errors import (
    ActionNotAuthorized,
    DelegationRevoked,
    DuplicateRequest,
    NodeFailure,
    NodeRefused,
    NotFound,
    OwnerMoved,
    PreconditionFailed,
    QuotaExceeded,
    RateLimited,
    ReleaseRefused,
    SpaceNotFound,
    StoreFull,
    TokenOutsideWindow,
    Unauthorized,
    ValueTooLarge,
)

_MAX_TEXT_CHARS = 2_000
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{32}", re.ASCII)
# The error for each text of a 401 or 403; the groups are the error's attributes.
_UNAUTHORIZED: tuple[tuple[Callable[..., Unauthorized], str], ...] = (
    # I36: the resource ends at the last "/" before an ability of the tinycloud family or ours.
    # Blanks around it are stripped afterwards: an expression that matches them takes minutes for a
    # hostile text of blanks.
    (
        ActionNotAuthorized,
        (
            r"(?m)^Unauthorized"
            r" Action:(?P<resource>.*)/\s*(?P<action>(?:tinycloud|sealspace)\.\S+)\s*$"
        ),
    ),
    (DelegationRevoked, r"^delegation-(?:parent-|ancestor-)?revoked: (?:ancestor=)?(?P<cid>\w+)"),
    (OwnerMoved, r"^Owner moved: (?P<owner>did:\S+) is now (?P<successor>did:\S+)$"),
    (ReleaseRefused, r"^release refused: (?P<reason>[\w-]+)"),
    (
        TokenOutsideWindow,
        (
            r"expired or not yet valid|lifetime exceeds|^invocation expired|^invocation not yet"
            r" valid|^Child delegation "
        ),
    ),
    (Unauthorized, ""),
)


class _Problem(msgspec.Struct):
    """A problem document (RFC 9457).

    Only the members that this client reads are decoded.
    """

    code: str = ""
    detail: str = ""
    title: str = ""
    hint: str = ""


class _StorageRefused(msgspec.Struct):
    """The JSON of a node that refuses a write for lack of space (wire 4.10).

    Nodes before TinyCloud's 1.18 answer with the text alone.
    """

    message: str


_OF_STORAGE = (402, 413)


def refusal_of(
    status: int, headers: Mapping[str, str], body: bytes, *, asked: str = ""
) -> NodeRefused:
    """Return the exception for an error response.

    The body of the response may contain any bytes.
    """
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    problem = _Problem()
    text = ""
    if kind == "application/problem+json":
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            problem = msgspec.json.decode(body, type=_Problem)
        text = problem.detail or problem.title or problem.code
    elif kind != "text/html":
        # HTML is a proxy's error page: only its status is useful.
        text = body[: 4 * _MAX_TEXT_CHARS].decode("utf-8", "replace")
    if kind == "application/json" and status in _OF_STORAGE:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            text = msgspec.json.decode(body, type=_StorageRefused).message
    refusal = _refusal(status, text[:_MAX_TEXT_CHARS].strip(), asked)
    refusal.problem = problem.code[:100]
    if problem.hint:
        refusal.hint = refusal.step = problem.hint[:_MAX_TEXT_CHARS]
    after = headers.get("Retry-After", "")
    refusal.retry_after_s = float(after) if _SECONDS.fullmatch(after) else None
    if status == 503 and refusal.retry_after_s:
        refusal.hint = refusal.step = f"try again in {after} s"
    request_id = headers.get("TinyCloud-Trace-Id", "")
    if _HEX.fullmatch(request_id):
        refusal.add_note(f"the node's log has this request as {request_id}")
    return refusal


_BY_STATUS: Mapping[int, type[NodeRefused]] = {
    402: QuotaExceeded,
    404: NotFound,
    409: DuplicateRequest,
    412: PreconditionFailed,
    413: ValueTooLarge,
    429: RateLimited,
    507: StoreFull,
}


def _refusal(status: int, text: str, asked: str) -> NodeRefused:
    if status in (401, 403):
        for unauthorized, pattern in _UNAUTHORIZED:
            match = re.search(pattern, text)
            if match is not None:
                members = {name: value.strip() for name, value in match.groupdict().items()}
                return unauthorized(status, text, asked=asked, **members)
    default = NodeFailure if status >= 500 else NodeRefused
    refused = _BY_STATUS.get(status, default)
    if refused is NotFound and text == "Space not found":
        refused = SpaceNotFound
    return refused(status, text, asked=asked)
