"""Request types for value operations, and validation of batch writes (wire §4.4, Q3).

Every batch is checked before anything runs.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from msgspec import Struct

from capabilities.abilities import KV_PUT
from capabilities.resources import Resource, SpaceId, SpaceResource
from capabilities.tokens import Invocation

from ...refusal import Refusal
from ...services import Services
from .conditions import Options

MAX_BATCH_READS = 100
MAX_BATCH_WRITES = 250  # ST6
_STORED = frozenset({"content-type", "content-encoding", "content-language", "content-disposition"})
_STORED_PREFIX = "x-tinycloud-meta-"


class Step(Struct, frozen=True, gc=False):
    """The target of one capability: a space, and a path exactly as signed in the token (U13)."""

    space: SpaceId
    path: str


class Message(Struct, frozen=True):
    """An untrusted request without its token, with a body that is read on demand (I11).

    Attributes:
        headers: the headers, found by name in any case.
        client: the caller's network address for the limit on new owners; None is not counted.
        at_hand: returns the body if it has arrived completely, else None.
        pieces: returns the body as it arrives.
        whole_body: reads a body of at most the given size; None if it is longer or does not arrive.
    """

    headers: Mapping[str, str]
    client: str | None
    at_hand: Callable[[], bytes | None]
    pieces: Callable[[], AsyncIterator[bytes]]
    whole_body: Callable[[int], Awaitable[bytes | None]]

    @property
    def declared_bytes(self) -> int | None:
        """The body's length in bytes from the `Content-Length` header."""
        stated = self.headers.get("Content-Length")
        return None if stated is None else int(stated)

    @property
    def is_form(self) -> bool:
        """Whether the body is `multipart/form-data`."""
        return self.headers.get("Content-Type", "").lower().startswith("multipart/form-data")


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers to store with a value, keyed by lower-case name (4.4.3).

    If a header is repeated, the last one counts.
    """
    return {
        name: value
        for key, value in headers.items()
        if (name := key.lower()) in _STORED or name.startswith(_STORED_PREFIX)
    }


class Request(Struct, frozen=True):
    """A parsed request to `/invoke`, which is passed to the operation."""

    services: Services
    invocation: Invocation
    steps: tuple[Step, ...]
    options: Options
    message: Message

    @property
    def step(self) -> Step:
        """The first step."""
        return self.steps[0]


def is_value(resource: Resource) -> bool:
    """Return whether a resource is the path of a value, `<space>/kv/<path>` (4.4).

    Other resources have no effect.
    """
    return (
        isinstance(resource, SpaceResource)
        and resource.service == "kv"
        and resource.path is not None
    )


def check_batch_put(request: Request) -> None:
    """Check that a token has only write capabilities, for distinct paths in one space (4.4.6, I10).

    Raises:
        Refusal: `bad-option`, the token has other capabilities.
    """
    capabilities, steps = request.invocation.capabilities, request.steps
    if len(steps) != len(capabilities) or any(
        capability.ability != KV_PUT for capability in capabilities
    ):
        raise Refusal(
            "bad-option", "KV batch put only accepts tinycloud.kv/put capabilities with paths"
        )
    if len({step.space for step in steps}) > 1:
        raise Refusal("bad-option", "KV batch put must target one space")
    seen: set[str] = set()
    for step in steps:
        if step.path in seen:  # the signature would not decide which of two bodies is stored
            raise Refusal("bad-option", f"Duplicate KV batch put capability for path {step.path}")
        seen.add(step.path)
