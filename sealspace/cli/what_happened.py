"""What happened, in the words of the command line: errors of the SDK name abilities, resources and routes."""

import re
from collections.abc import Mapping
from typing import Final

from ..errors import (
    ActionNotAuthorized,
    BatchIncomplete,
    DecryptDenied,
    DelegationRevoked,
    NodeRefused,
    NotGranted,
    ReleaseRefused,
    SealspaceError,
    TokenOutsideWindow,
    TransportError,
)

_REQUEST: Final = re.compile(
    r"^(?:(?:GET|HEAD|POST|PUT|DELETE|OPTIONS) \S+|(?:tinycloud|sealspace)\.\S+ on \S+(?: and \d+ more)?)(?:: |$)"
)
_ASKED: Final = re.compile(r"^(?P<ability>(?:tinycloud|sealspace)\.\S+) on (?P<resource>\S+)(?P<more> and \d+ more)?")
_RELEASE: Final[Mapping[str, str]] = {
    "mode": "on these terms only code that proves itself reads it, and not its owner in person",
    "no_policy": "it is somebody else's, and no code is approved for it",
    "not_attested": "only code that proves itself reads it, and this caller has proved nothing",
    "withdrawn": "its owner or the node's operator withdrew the caller, its code or its evidence",
}
"""Reason of the release gate -> what it means; every other is about the code that was proved."""
_OF_CODE: Final = "what the caller proved of its code is not what is demanded"


def what_happened(error: SealspaceError, *, own: str = "") -> str:
    """Return one line without the full stop: what was to be done, and why it was not."""
    text = _what_happened(error, own)
    return " ".join(text.split()).rstrip(".")


def _what_happened(error: SealspaceError, own: str) -> str:
    match error:
        case DecryptDenied():
            return _what_happened(error.refusal, own)
        case ReleaseRefused():
            return f"the node does not open it: {_RELEASE.get(error.reason, _OF_CODE)} ({error.reason})"
        case NotGranted(missing=missing) if missing:
            return f"this session may not {'; '.join(_right(one.ability, one.resource.text, own) for one in missing)}"
        case ActionNotAuthorized():
            return f"the node does not allow this session to {_right(error.action, error.resource, own)}"
        case DelegationRevoked():
            return f"the grant or session that this rests on was revoked: {error.cid}"
        case TokenOutsideWindow():
            return f"the session or a grant is not valid at this time: {error.text}"
        case NodeRefused():
            reason = error.text or error.reason_in_words or f"the node answers with status {error.status}"
            asked = _ASKED.match(error.asked)
            if asked is not None:
                return f"cannot {_right(asked['ability'], asked['resource'], own)}{asked['more'] or ''}: {reason}"
            subject = _REQUEST.sub("", error.asked)
            return f"{subject}: {reason}" if subject else f"the node refuses it: {reason}"
        case BatchIncomplete(__cause__=SealspaceError() as cause):
            count = len(error.done)
            return f"of {count + len(error.left)} values {count} are written: {_what_happened(cause, own)}"
        case TransportError():  # the request, which no person wrote, reached nobody
            return _REQUEST.sub("", error.message)
    return error.message


def _right(ability: str, resource: str, own: str) -> str:
    """Say what one ability on one resource allows."""
    from ..apps.descriptions import granted_resource, rights_words  # needed for errors alone

    (words,) = rights_words([granted_resource(resource, (ability,))], by=own, with_below=False)
    return words
