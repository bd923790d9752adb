"""What the capabilities of a token ask of values, and which of them can share one answer (wire §4.4, Q3).

Every batch is checked before anything runs.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final, Protocol

from msgspec import Struct

from capabilities.abilities import KV_PUT
from capabilities.resources import Resource, SpaceId, SpaceResource
from capabilities.tokens import Invocation

from ...refusal import Refusal
from ...services import Services
from .conditions import Options

MAX_BATCH_READS: Final = 100
MAX_BATCH_WRITES: Final = 250  # ST6


class Step(Struct, frozen=True, gc=False):
    """One operation of a token: its space, and the path exactly as signed (U13)."""

    space: SpaceId
    path: str


class Part(Struct, frozen=True):
    """One value of a batch put, as it arrives."""

    path: str
    metadata: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class Message(Protocol):
    """A request without its token, untrusted. Nothing of its body is read before a run asks for it (I11)."""

    headers: Mapping[str, str]

    @property
    def is_form(self) -> bool:
        """Whether the body is `multipart/form-data`."""

    @property
    def client(self) -> str | None:
        """Network address of the caller, counted against the bound on new owners; None: not counted."""

    @property
    def declared_bytes(self) -> int | None:
        """How long the body is said to be."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The headers that are stored with a value."""

    def at_hand(self) -> bytes | None:
        """Return the body if it has arrived whole."""

    def pieces(self) -> AsyncIterator[bytes]:
        """Return the body as one value."""

    def parts(self) -> AsyncIterator[Part]:
        """Return the body as a form of several values; `bad-option` where it has no boundary."""

    async def whole_body(self, *, max_bytes: int) -> bytes | None:
        """Read the whole body; None: it is longer, or does not arrive."""


class Request(Struct, frozen=True):
    """The argument of a run."""

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
    """Whether a resource is about values: only the service "kv" with a path that is present executes anything (4.4)."""
    return isinstance(resource, SpaceResource) and resource.service == "kv" and resource.path is not None


def check_batch_put(request: Request) -> None:
    """Check that a token makes a batch of puts: puts and nothing else, to one space, each path once (4.4.6, I10)."""
    capabilities, steps = request.invocation.capabilities, request.steps
    if len(steps) != len(capabilities) or any(capability.ability != KV_PUT for capability in capabilities):
        raise Refusal("bad-option", "KV batch put only accepts tinycloud.kv/put capabilities with paths")
    if len({step.space for step in steps}) > 1:
        raise Refusal("bad-option", "KV batch put must target one space")
    seen: set[str] = set()
    for step in steps:
        if step.path in seen:  # nothing that was signed decides which of two bodies would be stored
            raise Refusal("bad-option", f"Duplicate KV batch put capability for path {step.path}")
        seen.add(step.path)
    if len(steps) > MAX_BATCH_WRITES:
        raise Refusal("bad-option", f"KV batch put accepts at most {MAX_BATCH_WRITES} keys")


def check_batch_delete(request: Request) -> None:
    """Check that a token does not delete too many values for one commit (Q4)."""
    if len(request.steps) > MAX_BATCH_WRITES:
        raise Refusal("bad-option", f"KV batch delete accepts at most {MAX_BATCH_WRITES} keys")


def check_batch_read(request: Request) -> None:
    """Check that a token does not read too many values for one answer (4.4.7)."""
    if len(request.steps) > MAX_BATCH_READS:
        raise no_common_answer(len(request.steps))


def no_common_answer(operations: int) -> Refusal:
    """Return the refusal of operations that do not share an answer (Q3); a refusal for their number comes first."""
    if operations > MAX_BATCH_READS:
        return Refusal("bad-option", f"KV batch reads accept at most {MAX_BATCH_READS} keys")
    return Refusal("bad-option", "Multiple invocation outcomes require a homogeneous KV get or metadata batch")
