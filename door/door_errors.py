"""Refusals of a door, with the statuses of its API (DR12)."""

from sealspace.errors import (
    DecryptDenied,
    InvalidInput,
    NodeFailure,
    NotFound,
    NotGranted,
    NotShared,
    PlaceMismatch,
    PreconditionFailed,
    QuotaExceeded,
    RateLimited,
    SealspaceError,
    SessionExpired,
    SpaceNotFound,
    TransportError,
    Unauthorized,
    UnboundValue,
    ValueTooLarge,
)

NODE_AWAY = 502
TOO_MANY = 429

_STATUSES: tuple[tuple[type[SealspaceError], int], ...] = (
    (SpaceNotFound, 403),
    (NotFound, 404),
    (PreconditionFailed, 400),
    (ValueTooLarge, 413),
    (QuotaExceeded, 507),
    (RateLimited, TOO_MANY),
    (NotGranted, 403),
    (NotShared, 403),
    (SessionExpired, 403),
    (Unauthorized, 403),
    (DecryptDenied, 403),
    (PlaceMismatch, 403),
    (UnboundValue, 403),
    (InvalidInput, 400),
    (TransportError, NODE_AWAY),
    (NodeFailure, NODE_AWAY),
)
"""Error of the SDK -> status; the first that fits counts."""


class DoorRefusal(Exception):
    """An answer with an error.

    Attributes:
        status: HTTP status.
        texts: messages about what failed and why, and what to do next. Empty for what does not
            exist: clients take a text there for a failure.
    """

    def __init__(self, status: int, *texts: str) -> None:
        super().__init__(*texts)
        self.status = status
        self.texts = texts


def refusal_of(error: SealspaceError) -> DoorRefusal:
    """Return the answer for an error of the SDK, whose texts contain no value and no token."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            if status == 404:
                return DoorRefusal(status)
            return DoorRefusal(status, f"{error.message}; next: {error.step}")
    return DoorRefusal(500, f"{error.message}; next: {error.step}")


def unserved(what: str, step: str) -> DoorRefusal:
    """Return the answer for a part of the API that the door does not have."""
    return DoorRefusal(404, f"{what}; next: {step}")
