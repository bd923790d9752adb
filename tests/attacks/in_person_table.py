"""The truth table for which callers receive a key, and which are the owner in person (IP1, IP2).

`test_in_person_table.py` asks a node about every row, and `pages/in_person_page.py` makes the page
that shows it.

Example:
    for row in TABLE:
        for policy, mode in product(POLICIES, MODES):
            row.answer(policy, mode)  # "opens", or the code of the refusal
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Who = Literal[
    "owner key",
    "sign-in",
    "session key of another app",
    "session key of another app, granted to",
    "share key",
    "manifest target",
    "backend",
    "attested backend",
    "machine token",
    "machine token of a key",
    "machine token for another secret",
    "machine token, closed network",
    "machine token of a session",
    "below a machine token",
]
Stated = Literal["nothing", "in the grant", "on the network"]
"""The place where measurements are stated."""
Mode = Literal["delegates", "everyone", "off"]

POLICIES: tuple[Stated, ...] = get_args(Stated)
MODES: tuple[Mode, ...] = get_args(Mode)
OPENS = "opens"
NOT_REGISTERED = "not registered"
"""The node refuses to register the delegation that the caller would cite."""

Answers = Mapping[Stated, tuple[str, str, str]]
"""For each place of measurements, the answer in each mode, in the order of the modes."""

_PERSON: Answers = {
    "nothing": (OPENS, "mode", OPENS),
    "in the grant": ("not_attested", "not_attested", "not_attested"),
    "on the network": (OPENS, "mode", OPENS),
}
_NOBODY: Answers = {
    "nothing": ("no_policy", "no_policy", OPENS),
    "in the grant": ("not_attested", "not_attested", "not_attested"),
    "on the network": ("not_attested", "not_attested", "not_attested"),
}
_MACHINE: Answers = {**_PERSON, "in the grant": (NOT_REGISTERED,) * 3}
_NEVER: Answers = dict.fromkeys(POLICIES, (NOT_REGISTERED,) * 3)


@dataclass(frozen=True)
class Row:
    """One kind of caller.

    Attributes:
        who: its name.
        holds: what it cites and who signed that, as the page says it.
        answers: what it gets.
    """

    who: Who
    holds: str
    answers: Answers

    def answer(self, policy: Stated, mode: Mode) -> str:
        """Return `OPENS`, `NOT_REGISTERED`, or the code of the refusal."""
        return self.answers[policy][MODES.index(mode)]


TABLE = (
    Row(
        "owner key",
        "nothing, or a grant by itself to itself: a `did:key` that owns the network (IP1)",
        {**_PERSON, "in the grant": (OPENS, "mode", OPENS)},
    ),
    Row(
        "sign-in",
        "the wallet's message to the key's own DID URL, with `capabilities/read` (IP2)",
        _PERSON,
    ),
    Row(
        "session key of another app",
        "the same, to a key that another app drew: who signs it has signed that app in",
        _PERSON,
    ),
    Row(
        "session key of another app, granted to",
        "a UCAN of this app's session to a key that was signed in elsewhere, without decrypt",
        _NOBODY,
    ),
    Row("share key", "a UCAN of the session's key (RL3)", _NOBODY),
    Row(
        "manifest target",
        "the wallet's grant of all that the manifest asks for, `capabilities/read` too, to the DID"
        " as given",
        _NOBODY,
    ),
    Row("backend", "the wallet's grant of decrypt to the DID as given", _NOBODY),
    Row(
        "attested backend",
        "the same, and evidence that it runs the code of the policy",
        {
            "nothing": _NOBODY["nothing"],
            "in the grant": (OPENS,) * 3,
            "on the network": (OPENS,) * 3,
        },
    ),
    Row(
        "machine token",
        "the wallet's delegation with the statement of a machine token, for the path at which the"
        " key is stored (MT1)",
        _MACHINE,
    ),
    Row("machine token of a key", "the same, of a `did:key` that owns the network", _MACHINE),
    Row(
        "machine token for another secret",
        "the same, while the key is stored at another path",
        {**dict.fromkeys(POLICIES, ("path",) * 3), "in the grant": (NOT_REGISTERED,) * 3},
    ),
    Row(
        "machine token, closed network",
        "the same, on a network whose policy says `inPerson: false`, as that of `PROTECTED_`"
        " secrets does",
        {
            **dict.fromkeys(POLICIES, ("policy", "mode", "policy")),
            "in the grant": (NOT_REGISTERED,) * 3,
        },
    ),
    Row(
        "machine token of a session",
        "the same, signed by the session's key, with and without its sign-in as proof (MT2)",
        _NEVER,
    ),
    Row("below a machine token", "a UCAN of a machine token's key (MT3)", _NEVER),
)
