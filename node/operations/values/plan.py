"""What an invocation asks for, decided by its capabilities alone (wire §4.1, §4.4.7).

One token may hold many capabilities; each that names an operation of this node yields one outcome, every other one is
authorised and does nothing. Outcomes that cannot share an answer are refused before anything runs (Q3).

Example:
    plan = plan_of(invocation.capabilities, kv_steps(invocation.capabilities), multipart=False)
    match plan.kind: ...
"""

from enum import Enum, auto
from typing import Final

from msgspec import Struct

from capabilities.abilities import (
    CAPABILITIES_READ,
    DECRYPT,
    KV_DELETE,
    KV_GET,
    KV_LIST,
    KV_METADATA,
    KV_PUT,
    resolve_alias,
)
from capabilities.resources import OpaqueResource, SpaceId, SpaceResource
from capabilities.tokens import Capability

from ..errors import BadOption
from .conditions import Shape

MAX_BATCH_READS: Final = 100
MAX_BATCH_WRITES: Final = 250  # ST6
_ENCRYPTION_PREFIX = "urn:tinycloud:encryption:"
_KV_PREFIX = "tinycloud.kv/"


class Verb(Enum):
    """The KV operations a capability can name."""

    GET = KV_GET
    METADATA = KV_METADATA
    LIST = KV_LIST
    PUT = KV_PUT
    DELETE = KV_DELETE


class Branch(Enum):
    """Which service a token addresses; decided in this order (I6, I7, I8)."""

    DECRYPT = auto()
    SQL = auto()
    DUCKDB = auto()
    KV = auto()


class Step(Struct, frozen=True, gc=False):
    """One KV operation of a token: verb, space, and the path exactly as signed (U13)."""

    verb: Verb
    space: SpaceId
    path: str


def branch_of(capabilities: tuple[Capability, ...]) -> Branch:
    """Return the service that the token addresses."""
    branch = Branch.KV
    for capability in capabilities:
        if capability.ability.startswith(_KV_PREFIX):
            continue  # no ability of the others
        if is_decrypt(capability):
            return Branch.DECRYPT  # I6
        if branch is not Branch.SQL and (service := _database(capability)) is not None:
            branch = service  # I7, I8
    return branch


def is_decrypt(capability: Capability) -> bool:
    """Tell whether the capability asks for a key of an encryption network."""
    resource = capability.resource
    return (
        capability.ability == DECRYPT
        and isinstance(resource, OpaqueResource)
        and resource.text.startswith(_ENCRYPTION_PREFIX)
    )


def _database(capability: Capability) -> Branch | None:
    """Return the database service that a capability addresses."""
    resource = capability.resource
    branch = _DATABASES.get(resource.service) if isinstance(resource, SpaceResource) else None
    if branch is None or not capability.ability.startswith(f"tinycloud.{branch.name.lower()}/"):
        return None
    return branch


_DATABASES: Final = {"sql": Branch.SQL, "duckdb": Branch.DUCKDB}


def reads_capabilities(capabilities: tuple[Capability, ...]) -> bool:
    """Tell whether the token asks which delegations touch a space (4.5)."""
    return any(
        isinstance(c.resource, SpaceResource)
        and (c.resource.service, c.resource.path, c.ability) == ("capabilities", "all", CAPABILITIES_READ)
        for c in capabilities
    )


def kv_steps(capabilities: tuple[Capability, ...]) -> tuple[Step, ...]:
    """Return the KV operations of a token, in the order they are processed (T7, 4.4)."""
    steps = []
    for capability in capabilities:
        resource = capability.resource
        if not isinstance(resource, SpaceResource):
            continue
        verb = _VERBS.get(capability.ability) or _VERBS.get(resolve_alias(capability.ability))
        # 4.4: only the service "kv" with a path that is present executes anything.
        if verb is not None and resource.service == "kv" and resource.path is not None:
            steps.append(Step(verb, resource.space, resource.path))
    return tuple(steps)


_VERBS = {verb.value: verb for verb in Verb}


def only_step(capabilities: tuple[Capability, ...]) -> Step | None:
    """Return the one operation of a token that holds a single capability, spelled as a `Verb`; None for all others.

    What nearly every token is. Its branch is KV and its plan this step alone, unless the body is multipart.
    """
    if len(capabilities) != 1:
        return None
    capability = capabilities[0]
    verb, resource = _VERBS.get(capability.ability), capability.resource
    if verb is None or not isinstance(resource, SpaceResource) or resource.service != "kv" or resource.path is None:
        return None
    return Step(verb, resource.space, resource.path)


def shape_of(steps: tuple[Step, ...], *, multipart: bool) -> Shape:
    """Count the operations by kind, for the option headers."""
    verbs = [step.verb for step in steps]
    return Shape(
        gets=verbs.count(Verb.GET), puts=verbs.count(Verb.PUT), deletes=verbs.count(Verb.DELETE), multipart=multipart
    )


class Kind(Enum):
    """What a token's KV operations amount to."""

    NOTHING = auto()
    ONE = auto()
    PUTS = auto()
    READS = auto()
    DELETES = auto()


class Plan(Struct, frozen=True, gc=False):
    """What is to run: the kind, and its operations in the order of their outcomes.

    Of kind PUTS all go to one space, each path once; of kind READS all are gets or all metadata reads.
    """

    kind: Kind
    steps: tuple[Step, ...]


def plan_of(capabilities: tuple[Capability, ...], steps: tuple[Step, ...], *, multipart: bool) -> Plan:
    """Decide how the operations of a token share one answer; nothing has run (Q3).

    Args:
        capabilities: of the token.
        steps: the operations among them; see `kv_steps`.
        multipart: whether the body is `multipart/form-data`.
    Raises:
        BadOption: they cannot, or there are too many of them.
    """
    puts = [step.verb for step in steps].count(Verb.PUT)
    if puts and multipart:
        return _batch_put(capabilities, steps)  # I10
    if puts > 1:
        raise BadOption("KV batch put requires multipart/form-data")
    if len(steps) < 2 and not (steps and reads_capabilities(capabilities)):
        return Plan(Kind.ONE if steps else Kind.NOTHING, steps)
    verbs = {step.verb for step in steps}
    if verbs == {Verb.DELETE}:  # Q4
        _bound_writes(steps, "KV batch delete")
        return Plan(Kind.DELETES, steps)
    if len(steps) > MAX_BATCH_READS:
        raise BadOption(f"KV batch reads accept at most {MAX_BATCH_READS} keys")
    is_mixed = len(steps) < len(capabilities) and reads_capabilities(capabilities)
    if is_mixed or verbs not in ({Verb.GET}, {Verb.METADATA}):
        raise BadOption("Multiple invocation outcomes require a homogeneous KV get or metadata batch")
    return Plan(Kind.READS, steps)


def _batch_put(capabilities: tuple[Capability, ...], steps: tuple[Step, ...]) -> Plan:
    """Judge the capabilities of a batch put: puts and nothing else, to one space, each path once (4.4.6)."""
    if len(steps) != len(capabilities) or any(step.verb is not Verb.PUT for step in steps):
        raise BadOption("KV batch put only accepts tinycloud.kv/put capabilities with paths")
    if len({step.space for step in steps}) > 1:
        raise BadOption("KV batch put must target one space")
    seen: set[str] = set()
    for step in steps:
        if step.path in seen:
            raise BadOption(f"Duplicate KV batch put capability for path {step.path}")
        seen.add(step.path)
    _bound_writes(steps, "KV batch put")
    return Plan(Kind.PUTS, steps)


def _bound_writes(steps: tuple[Step, ...], what: str) -> None:
    if len(steps) > MAX_BATCH_WRITES:
        raise BadOption(f"{what} accepts at most {MAX_BATCH_WRITES} keys")
