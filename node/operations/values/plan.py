"""Request types for operations on values (wire §4.4, Q3).

Every batch is checked before anything runs.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from capabilities.abilities import KV_PUT
from capabilities.frozen_struct import AcyclicStruct, FrozenStruct
from capabilities.resources import Resource, SpaceId, SpaceResource
from capabilities.tokens import Invocation
from spaces.values.value_heads import Head

from ...refusal import Refusal
from ...services import Services
from .conditions import Options

MAX_BATCH_READS = 100
MAX_BATCH_WRITES = 250  # limits the rows of one commit (ST6)
_STORED = frozenset({"content-type", "content-encoding", "content-language", "content-disposition"})
_STORED_PREFIX = "x-tinycloud-meta-"


class OperationTarget(AcyclicStruct):
    """The space and path to which one capability applies (U13).

    The path is exactly as signed in the token.
    """

    space: SpaceId
    path: str


class Message(FrozenStruct):
    """An untrusted HTTP request whose body is read on demand (I11).

    The request's token is not included.

    Attributes:
        headers: the headers, found by name in any case.
        client: the caller's network address for the limit on new owners; None is not counted.
        at_hand: returns the body if it has arrived completely, else None.
        pieces: returns the body as it arrives.
        whole_body: reads a body of at most the given size; None if it is longer or does not arrive.
        is_gone: returns whether the client has disconnected.
        note_wait: takes the nanoseconds for which the operation waited for a change. They are not
            counted as time that the request took.
    """

    headers: Mapping[str, str]
    client: str | None
    at_hand: Callable[[], bytes | None]
    pieces: Callable[[], AsyncIterator[bytes]]
    whole_body: Callable[[int], Awaitable[bytes | None]]
    is_gone: Callable[[], bool]
    note_wait: Callable[[int], None]

    @property
    def declared_bytes(self) -> int | None:
        """The body's length according to the `Content-Length` header."""
        stated = self.headers.get("Content-Length")
        return None if stated is None else int(stated)

    @property
    def is_form(self) -> bool:
        """Whether the body is `multipart/form-data`."""
        return self.headers.get("Content-Type", "").lower().startswith("multipart/form-data")


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the request headers to store with a value (4.4.3).

    Names are in lower case. If a header is repeated, the last one counts.
    """
    return {
        name: value
        for key, value in headers.items()
        if (name := key.lower()) in _STORED or name.startswith(_STORED_PREFIX)
    }


class Request(FrozenStruct):
    """A parsed request to `/invoke`, or one that the node makes itself.

    Attributes:
        condition: a further condition of a write; it raises unless the rows at the paths meet it.
    """

    services: Services
    invocation: Invocation
    targets: tuple[OperationTarget, ...]
    options: Options
    message: Message
    condition: Callable[[Sequence[Head | None]], None] | None = None

    @property
    def target(self) -> OperationTarget:
        """The space and path in the first capability of the request's token."""
        return self.targets[0]


def is_value(resource: Resource) -> bool:
    """Return whether a resource has the form `<space>/kv/<path>` (4.4).

    Other resources have no effect.
    """
    return (
        isinstance(resource, SpaceResource)
        and resource.service == "kv"
        and resource.path is not None
    )


def check_batch_put(request: Request) -> None:
    """Check that a token has only write capabilities (4.4.6, I10).

    They must be for distinct paths in one space.

    Raises:
        Refusal: `bad-option`, the token has other capabilities.
    """
    capabilities, targets = request.invocation.capabilities, request.targets
    if len(targets) != len(capabilities) or any(
        capability.ability != KV_PUT for capability in capabilities
    ):
        raise Refusal(
            "bad-option", "KV batch put only accepts tinycloud.kv/put capabilities with paths"
        )
    if len({target.space for target in targets}) > 1:
        raise Refusal("bad-option", "KV batch put must target one space")
    seen: set[str] = set()
    for target in targets:
        if target.path in seen:  # the signature would not decide which of two bodies is stored
            raise Refusal("bad-option", f"Duplicate KV batch put capability for path {target.path}")
        seen.add(target.path)
