"""Limits on the answers to invitations to a team (TM24).

Everybody who has the line of an invitation may write its answers. Without these limits the line
could fill the team's space: with values, with versions, and with rows of content keys.

Example:
    require_answers(space, paths, declared_bytes=declared_bytes)
    check_answers(space, received, sealed_paths)
"""

import re
from collections.abc import Collection, Sequence

from capabilities.resources import SpaceId
from sealspace.documents.invitations import ANSWERS, INVITATIONS_PATH, MAX_ANSWER_BYTES
from sealspace.documents.secret_names import SECRETS_SPACE
from spaces.values.metadata import metadata_bytes
from spaces.values.value_writes import Write

from ...refusal import Refusal

# The name may be empty, or contain slashes: whatever is below the folder of an invitation.
_BELOW_FOLDER = re.compile(INVITATIONS_PATH + r"[A-Za-z0-9_-]{22}/(?P<name>.*)", re.DOTALL)


def require_answers(space: SpaceId, paths: Sequence[str], *, declared_bytes: int) -> None:
    """Check, before a body is read, that a write stores only answers below an invitation (TM24).

    Args:
        space: the space of the writes.
        paths: their paths.
        declared_bytes: the size of the body according to the request; 0 if it is unknown.
    Raises:
        Refusal: `answer-refused`, a path is not that of an answer, or the only value is too large.
    """
    for path in paths:
        name = _name_below_folder(space, path)
        if name is None:
            continue
        if name not in ANSWERS:
            raise _refused("there is no answer of this name")
        if len(paths) == 1 and declared_bytes > MAX_ANSWER_BYTES:
            raise _too_large(declared_bytes)


def check_answers(space: SpaceId, writes: Sequence[Write], sealed_paths: Collection[str]) -> None:
    """Check the answers to invitations that a write has received (TM24).

    Args:
        space: the space of the writes.
        writes: the received values.
        sealed_paths: the paths at which an envelope would be stored.
    Raises:
        Refusal: `answer-refused`, an answer is too large or is an envelope.
    """
    for write in writes:
        if write.body is None or _name_below_folder(space, write.path) is None:
            continue
        size_bytes = write.body.size_bytes + metadata_bytes(write.metadata)
        if size_bytes > MAX_ANSWER_BYTES:
            raise _too_large(size_bytes)
        # Each new content key takes a row that stays (ST22), so the line could fill the limit.
        if write.path in sealed_paths:
            raise _refused("this one is an encrypted value")


def _name_below_folder(space: SpaceId, path: str) -> str | None:
    """Return the part of a path below the folder of an invitation; None for other paths."""
    if space.name != SECRETS_SPACE:
        return None
    found = _BELOW_FOLDER.fullmatch(path)
    return None if found is None else found["name"]


def _too_large(size_bytes: int) -> Refusal:
    return _refused(f"this one has {size_bytes} bytes with its headers")


def _refused(reason: str) -> Refusal:
    return Refusal("answer-refused", ", ".join(ANSWERS), MAX_ANSWER_BYTES, reason)
