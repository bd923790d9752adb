"""Steps of a trace, which refer to people, spaces and earlier steps by short labels.

So any part of a trace can be replayed. People are `W0` and `W1` (wallets) and `K0` to `K3` (keys);
spaces are `A` of `W0`, `B` of `W1` and `C` of `K0`. A step that refers to a label missing from a
shortened trace is left out. Times are seconds since the trace began.
"""

from dataclasses import dataclass
from typing import TypeAlias

WALLETS = ("W0", "W1")
KEYS = ("K0", "K1", "K2", "K3")
PEOPLE = WALLETS + KEYS
OWNERS = {"A": "W0", "B": "W1", "C": "K0"}
"""Space to owner."""

KV = "tinycloud.kv/"
REVOKE = "tinycloud.delegation/revoke"
HOST = "tinycloud.space/host"


@dataclass(frozen=True, slots=True)
class Row:
    """One capability without caveats; a `path` of None is absent, and "" is empty (U11)."""

    space: str
    service: str
    path: str | None
    ability: str


Rows: TypeAlias = tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """Sign a delegation and register it."""

    label: int
    signer: str
    audience: str
    rows: Rows
    parents: tuple[int, ...] = ()
    begins: int | None = None
    ends: int | None = None
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """Sign an invocation and use it.

    `condition` is a header and its value, in which `v7` stands for the entity tag of body 7. `body`
    is the number of the value to store. `ends` counts from the whole second of signing. `cursor` is
    the step whose answer contained the cursor. `most_bytes` is the largest accepted answer.
    """

    label: int
    signer: str
    rows: Rows
    proofs: tuple[int, ...] = ()
    ends: int = 0
    body: int = 0
    condition: tuple[str, str] | None = None
    limit: int | None = None
    cursor: int | None = None
    most_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Revoke:
    """Sign a revocation and send it; `ends` counts from the whole second of signing."""

    label: int
    signer: str
    target: int
    proofs: tuple[int, ...] = ()
    ends: int = 0


@dataclass(frozen=True, slots=True)
class Again:
    """Send the token of an earlier step again, with the same headers and body."""

    label: int
    step: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Let time pass."""

    label: int
    seconds: float


Step: TypeAlias = Grant | Call | Revoke | Again | Wait
Signed: TypeAlias = Grant | Call | Revoke


def references(step: Step) -> tuple[int, ...]:
    """Return the labels of the steps that this one needs."""
    match step:
        case Grant():
            return step.parents
        case Call():
            return step.proofs + (() if step.cursor is None else (step.cursor,))
        case Revoke():
            return (step.target, *step.proofs)
        case Again():
            return (step.step,)
        case Wait():
            return ()


def resource_in(space: str, row: Row) -> str:
    """Return the resource of a capability in a space with this text."""
    return f"{space}/{row.service}" + ("" if row.path is None else f"/{row.path}")


def reported(step: Step) -> str:
    """Return a step as one short line."""
    words = [f"#{step.label} {type(step).__name__.lower()}"]
    for name in step.__slots__:  # every step is a slotted dataclass
        value = getattr(step, name)
        if name == "label" or value is None or value is False or value == ():
            continue
        if name == "rows":
            value = " ".join(
                f"{r.space}/{r.service}{'' if r.path is None else '/' + r.path}:{r.ability}"
                for r in value
            )
        words.append(f"{name}={value}")
    return " ".join(words)
