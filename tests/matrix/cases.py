"""Random requests with the grants below them: what people sign, and in which order it is sent.

A case is drawn along seven axes: who requests, the kind of request, ability, place, relation of the
requested place to the granted one, chain, caveats and fault. Most draws are harmless, so many
requests are admitted and the others are mostly refused for one reason. The module signs nothing and
imports nothing of the product.

Times are seconds since the beginning of the case.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, TypeAlias

from matrix.caveat_pairs import PAIRS, SQL_PAIRS, Caveats
from matrix.places import ABILITIES, INVALID_ABILITY, PLACES, RELATIONS, family_of

ENDS_S = 3600
CALL_ENDS_S = 60
EARLY_S = 100
REVOKE = "tinycloud.delegation/revoke"

_WALLETS = ("W0", "W1")
OWNERS = (*_WALLETS, "K0")
HOLDERS = ("K1", "K2", "K3", "P0", "S0", "J0", "A0")
STRANGER = "X0"
PEOPLE = (*OWNERS, *HOLDERS, STRANGER)
"""Wallets W, Ed25519 keys K and X, a P-256 key, a secp256k1 key, a did:jwk, an account with a key.

A wallet signs grants as CACAOs, and other tokens as JWTs with its public key in their header.
"""

Kind: TypeAlias = Literal["grant", "call", "revocation"]


@dataclass(frozen=True, slots=True)
class Right:
    """One capability, with the caveat list that a token states."""

    resource: str
    ability: str
    caveats: Caveats = ({},)


@dataclass(frozen=True, slots=True)
class Token:
    """A token to sign, and mostly to send.

    Attributes:
        label: distinguishes the tokens of a case; a token with the label of an earlier one is that
            token again.
        signer: DID.
        audience: DID.
        proofs: labels of the cited tokens.
        is_cacao: whether a wallet signs it as text.
        is_broken: whether a bit of its signature is wrong.
        is_sent: whether the node gets it; a withheld one can be cited all the same.
        target: label of the grant that a revocation names.
    """

    label: int
    kind: Kind
    signer: str
    audience: str
    rights: tuple[Right, ...] = ()
    proofs: tuple[int, ...] = ()
    begins: int | None = None
    ends: int | None = ENDS_S
    is_cacao: bool = False
    is_terminal: bool = False
    is_broken: bool = False
    is_sent: bool = True
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """A step that lets time pass."""

    seconds: float


Step: TypeAlias = Token | Wait


@dataclass(frozen=True, slots=True)
class Case:
    """Steps whose last one is the request, and the value that was drawn on each axis."""

    steps: tuple[Step, ...]
    axes: Mapping[str, str]


SHAPES = {
    "own": 8, "own with a proof": 3, "direct": 24, "line": 24, "long": 0.5, "too long": 0.5,
    "diamond": 5, "joined": 5, "split": 4, "owner between": 4, "further proof": 5,
    "shorter side parent": 4, "two long lines": 0.7,
}  # fmt: skip
_LONG_SHAPES = ("long", "too long", "two long lines")
FAULTS = {
    "none": 62, "outlives": 2, "begins before": 4, "begins now": 2, "begins later": 1,
    "ends at once": 2, "ended": 2, "terminal": 3, "broken link": 1, "never sent": 2,
    "granted to another": 2, "revoked leaf": 3, "revoked root": 3, "revoked sibling": 2,
    "revoked by a stranger": 2, "stranger asks": 2, "no proof": 2, "proof twice": 2,
    "ancestor cited": 2, "broken": 1, "expired": 1, "not begun": 1, "lives too long": 2,
    "to the node": 3, "to another node": 2, "sent twice": 2, "registered before": 1,
}  # fmt: skip
KINDS = {"call": 62, "grant": 28, "revocation": 10}
REVOKERS = {
    "delegator": 3, "delegate": 3, "owner": 3, "stranger": 2, "holder": 3, "holder of less": 2,
    "not the holder": 2, "holder until now": 2, "holder of a revoked right": 2, "too late": 2,
    "unregistered target": 1,
}  # fmt: skip
AXES: dict[str, Collection[str]] = {
    "requester": PEOPLE,
    "kind": KINDS,
    "chain": SHAPES,
    "fault": FAULTS,
    "place": PLACES,
    "relation": RELATIONS,
    "ability": {INVALID_ABILITY, *[pair for pairs in ABILITIES.values() for pair in pairs]},
    "caveats": {*PAIRS, *SQL_PAIRS},
    "revoker": REVOKERS,
}
"""The values of each axis."""


@dataclass
class Draw:
    """The values of one case on its axes."""

    kind: str
    shape: str
    fault: str
    place: str
    relation: str
    ability: str
    caveats: str
    owner: str
    is_cacao: bool
    is_early: bool
    has_more: bool
    revoker: str = ""
    requester: str = ""

    def axes(self) -> dict[str, str]:
        """Return the axes that the coverage is counted by."""
        axes = {
            "requester": self.requester,
            "kind": self.kind,
            "chain": self.shape,
            "fault": self.fault,
            "place": self.place,
            "relation": self.relation,
            "ability": self.ability,
            "caveats": self.caveats,
        }
        return axes | ({"revoker": self.revoker} if self.kind == "revocation" else {})


@dataclass
class Cases:
    """A seeded source of cases.

    Attributes:
        names: the DID of each of `PEOPLE`.
        node: the DID of the node.
    """

    names: Mapping[str, str]
    node: str
    random: Random
    _steps: list[Step] = field(default_factory=list)
    _label: int = 0

    def draw(self) -> Case:
        """Return the next case."""
        self._steps, self._label = [], 0
        drawn = self._drawn()
        chain = _Chain(self, drawn)
        chain.build()
        if drawn.kind == "revocation":
            self._revoke_by(drawn, chain)
        else:
            self._request(drawn, chain)
        return Case(tuple(self._steps), drawn.axes())

    # --- what the chain uses ----------------------------------------------------------------------

    def add(self, token: Token) -> Token:
        """Append a token under a new label, and return it."""
        numbered = replace(token, label=self._label)
        self._label += 1
        self._steps.append(numbered)
        return numbered

    def wait(self, seconds: float) -> None:
        """Append a wait."""
        self._steps.append(Wait(seconds))

    def chance(self, share: float) -> bool:
        """Return True in this share of the calls."""
        return self.random.random() < share

    def pick(self, weights: Mapping[str, float]) -> str:
        """Return one of the keys, as often as their weights say."""
        return self.random.choices([*weights], [*weights.values()])[0]

    # --- the axes ---------------------------------------------------------------------------------

    def _drawn(self) -> Draw:
        place = self.pick(PLACES)
        family = family_of(place)
        pairs = SQL_PAIRS if family == "sql" else PAIRS
        caveats = "none" if self.chance(0.62) else self.random.choice([*pairs])
        relation = "same" if self.chance(0.5) else self.random.choice([*RELATIONS])
        ability = "same" if self.chance(0.6) else self.random.choice([*ABILITIES[family]])
        if self.chance(0.01):
            ability = INVALID_ABILITY
        owner = self.random.choice(OWNERS)
        shape, fault = self.pick(SHAPES), self.pick(FAULTS)
        if shape in _LONG_SHAPES and self.chance(0.8):  # these are few, so nothing else is wrong
            relation, ability, caveats, fault = "same", "same", "none", "none"
        return Draw(
            kind=self.pick(KINDS),
            shape=shape,
            fault=fault,
            place=place,
            relation=relation,
            ability=ability,
            caveats=caveats,
            owner=owner,
            # a text signed by a wallet states no caveats
            is_cacao=owner != "K0" and caveats == "none" and self.chance(0.7),
            is_early=self.chance(0.25),
            has_more=self.chance(0.2),
        )

    # --- requests ---------------------------------------------------------------------------------

    def _request(self, drawn: Draw, chain: "_Chain") -> None:
        """Append the request, and what has to come directly before it."""
        fault = drawn.fault
        label = chain.holder if fault != "stranger asks" else STRANGER
        drawn.requester = label
        token = Token(
            label=0,
            kind="call" if drawn.kind == "call" else "grant",
            signer=self.names[label],
            audience=self.names[label if drawn.kind == "call" else self._next_holder(label)],
            rights=chain.asked,
            proofs=self._cited(fault, chain),
            ends=CALL_ENDS_S + chain.waited_s if drawn.kind == "call" else chain.ends,
            begins=chain.begins if drawn.kind == "grant" else None,
            is_cacao=self._is_cacao(drawn, label),
        )
        token = self._with_fault(token, fault, chain)
        if fault == "registered before":
            registered = self.add(replace(token, kind="grant"))
            self._steps.append(replace(registered, kind=token.kind))
            return
        sent = self.add(token)
        if fault == "sent twice":
            self._steps.append(sent)

    def _is_cacao(self, drawn: Draw, label: str) -> bool:
        is_grant = drawn.kind == "grant" and drawn.fault != "registered before"
        return is_grant and drawn.is_cacao and label in _WALLETS

    def _cited(self, fault: str, chain: "_Chain") -> tuple[int, ...]:
        if fault == "no proof":
            return ()
        if fault == "proof twice":
            return (*chain.proofs, *chain.proofs[:1])
        if fault == "ancestor cited" and chain.line:
            return (chain.line[0],)
        return chain.proofs

    def _with_fault(self, token: Token, fault: str, chain: "_Chain") -> Token:
        waited = chain.waited_s
        match fault:
            case "broken":
                return replace(token, is_broken=True)
            case "expired":
                return replace(token, ends=waited - 1)
            case "not begun":
                return replace(token, begins=waited + 1)
            case "lives too long":
                return replace(token, ends=waited + self.random.choice((300, 301, 4000)))
            case "begins before" if token.kind == "grant":
                return replace(token, begins=self.random.choice((None, -21, -20, -19)))
            case "to the node":
                return replace(token, audience=self.node)
            case "to another node":
                return replace(token, audience=self.names["J0"])
        return token

    def _next_holder(self, label: str) -> str:
        return self.random.choice([one for one in HOLDERS if one != label])

    # --- revocations ------------------------------------------------------------------------------

    def revoke(
        self, signer: str, target: int, *, proofs: Sequence[int] = (), ends: int = ENDS_S
    ) -> Token:
        """Append a revocation; a wallet's one is a CACAO."""
        return self.add(
            Token(
                label=0,
                kind="revocation",
                signer=self.names[signer],
                audience=self.names[signer],
                proofs=tuple(proofs),
                ends=ends,
                is_cacao=signer in _WALLETS,
                target=target,
            )
        )

    def _revoke_by(self, drawn: Draw, chain: "_Chain") -> None:
        """Append a revocation of one of the chain's grants."""
        drawn.revoker = self.pick(REVOKERS)
        if not chain.links:
            drawn.revoker = "unregistered target"
            withheld = self.add(replace(chain.root_grant(self._next_holder("")), is_sent=False))
            drawn.requester = drawn.owner
            self.revoke(drawn.owner, withheld.label)
            return
        target = self.random.choice(chain.links)
        proofs: list[int] = []
        ends = ENDS_S
        match drawn.revoker:
            case "delegator":
                signer = self._label_of(target.signer)
            case "delegate":
                signer = self._label_of(target.audience)
            case "owner" | "too late":
                signer = drawn.owner
            case "stranger" | "unregistered target":
                signer = STRANGER
            case _:
                signer, right = self._holder_of_right(drawn, target, chain)
                proofs = [right]
        drawn.requester = signer
        if drawn.revoker == "too late":
            ends = chain.waited_s - 1
        if drawn.revoker == "unregistered target":
            target = self.add(replace(chain.root_grant("K1"), is_sent=False))
        self.revoke(signer, target.label, proofs=proofs, ends=ends)

    def _holder_of_right(self, drawn: Draw, target: Token, chain: "_Chain") -> tuple[str, int]:
        """Register a right to revoke, and return who cites it and its label."""
        holder = self._next_holder(self._label_of(target.audience))
        ends = ENDS_S
        if drawn.revoker == "holder until now":
            ends = chain.waited_s + self.random.choice((9, 10, 11))
        right = self._right_to_revoke(drawn, holder, ends=ends)
        if drawn.revoker == "holder until now":
            self.wait(10)
        if drawn.revoker == "holder of a revoked right":
            self.revoke(drawn.owner, right)
        return (self._next_holder(holder) if drawn.revoker == "not the holder" else holder), right

    def _right_to_revoke(self, drawn: Draw, holder: str, *, ends: int) -> int:
        """Register a grant of the right to revoke, or a similar one, and return its label."""
        space = f"tinycloud:{self.names[drawn.owner][4:]}:default"
        resource, ability = f"{space}/delegation", REVOKE
        if drawn.revoker == "holder of less":
            resource, ability = self.random.choice(
                (
                    (f"{space}/delegation/x", REVOKE),
                    (f"{space}/delegation#f", REVOKE),
                    (f"{space}/kv", REVOKE),
                    (f"{space}/delegation", "tinycloud.delegation/status"),
                )
            )
        elif self.chance(0.3):
            resource += "/"
        return self.add(
            Token(
                label=0,
                kind="grant",
                signer=self.names[drawn.owner],
                audience=self.names[holder],
                rights=(Right(resource, ability),),
                ends=ends,
                is_cacao=drawn.owner in _WALLETS,
            )
        ).label

    def _label_of(self, did: str) -> str:
        return next(label for label, name in self.names.items() if name == did)


class _Chain:
    """The grants of a case, from the owner to the principal who requests.

    Attributes:
        holder: label of the principal at the end.
        proofs: what the request cites.
        asked: what the request asks for.
        links: the grants that were sent, in order.
        line: labels of the grants on the main line.
        waited_s: how long the case has waited.
        begins, ends: the window of the grants.
    """

    def __init__(self, cases: Cases, drawn: Draw) -> None:
        self._cases, self._drawn = cases, drawn
        self.holder = drawn.owner
        self.proofs: tuple[int, ...] = ()
        self.links: list[Token] = []
        self.line: list[int] = []
        self.waited_s = 0
        self.ends = EARLY_S if drawn.fault in ("ends at once", "ended") else ENDS_S
        self.begins = -20 if drawn.fault == "begins before" else None
        self._did = cases.names[drawn.owner]
        self._granted, self.asked = self._rights()
        self._passed = self._granted

    def _rights(self) -> tuple[tuple[Right, ...], tuple[Right, ...]]:
        """Return what the owner grants and what is requested."""
        drawn, cases = self._drawn, self._cases
        family = family_of(drawn.place)
        resource = PLACES.text(drawn.place, self._did)
        other_owner = cases.names["W1" if drawn.owner == "W0" else "W0"]
        asked_resource = RELATIONS[drawn.relation](resource, self._did, other_owner)
        if asked_resource is None:
            drawn.relation, asked_resource = "same", resource
        if drawn.ability == INVALID_ABILITY:
            held, asked = ABILITIES[family]["same"]
            asked = "kv"
        else:
            held, asked = ABILITIES[family][drawn.ability]
        pairs = SQL_PAIRS if family == "sql" else PAIRS
        stated, asked_caveats = pairs[drawn.caveats](resource)
        granted = [Right(resource, held, stated)]
        wanted = [Right(asked_resource, asked, asked_caveats)]
        if drawn.has_more:
            further = Right(f"tinycloud:{self._did[4:]}:default/kv/more", "tinycloud.kv/get")
            granted.append(further)
            wanted.append(further)
        return tuple(granted), tuple(wanted)

    def build(self) -> None:
        """Append the grants of the drawn shape, and what happens to them afterwards."""
        shapes: dict[str, Callable[[], None]] = {
            "own": lambda: None,
            "own with a proof": self._own_with_proof,
            "direct": lambda: self._line(1),
            "line": lambda: self._line(self._cases.random.randint(2, 6)),
            "long": lambda: self._line(64),
            "too long": lambda: self._line(65),
            "diamond": self._diamond,
            "joined": self._joined,
            "split": self._split,
            "owner between": self._owner_between,
            "further proof": self._further_proof,
            "shorter side parent": self._shorter_side_parent,
            "two long lines": self._two_long_lines,
        }
        shapes[self._drawn.shape]()
        self._afterwards()

    def root_grant(self, audience: str) -> Token:
        """Return a grant of the owner to somebody, which is not appended."""
        return Token(
            label=0,
            kind="grant",
            signer=self._did,
            audience=self._cases.names[audience],
            rights=self._granted,
            begins=self.begins,
            ends=self.ends,
            is_cacao=self._drawn.is_cacao,
        )

    # --- shapes -----------------------------------------------------------------------------------

    def _pass_on(
        self,
        signer: str,
        audience: str,
        rights: Sequence[Right],
        proofs: Sequence[int],
        **changes: Any,
    ) -> int:
        """Append one grant, and return its label."""
        token = replace(
            self.root_grant(audience),
            signer=self._cases.names[signer],
            rights=tuple(rights),
            proofs=tuple(proofs),
        )
        if signer not in _WALLETS:
            token = replace(token, is_cacao=False)
        added = self._cases.add(replace(token, **changes))
        self.links.append(added)
        return added.label

    def _line(self, length: int) -> None:
        """Append a line of grants; in some, the narrowing happens before the last one."""
        drawn, cases = self._drawn, self._cases
        narrows_at = cases.random.randint(2, length) if length > 1 and drawn.is_early else None
        signer, rights = drawn.owner, self._granted
        proofs: tuple[int, ...] = ()
        for number in range(1, length + 1):
            if number == narrows_at:
                rights = self.asked
            audience = cases.random.choice([one for one in HOLDERS if one != signer])
            changes = self._link_changes(is_last=number == length, is_first=number == 1)
            named = STRANGER if changes.pop("is_to_another", False) else audience
            proofs = (self._pass_on(signer, named, rights, proofs, **changes),)
            self.line.append(proofs[0])
            signer = audience
        self.holder, self.proofs, self._passed = signer, proofs, rights

    def _link_changes(self, *, is_first: bool, is_last: bool) -> dict[str, Any]:
        """Return how the fault changes a link of a line."""
        fault = self._drawn.fault
        if fault == "terminal" and self._cases.chance(0.5):
            # its holder may use it all the same; a wallet's text cannot state it
            return {"is_terminal": True, "is_cacao": False}
        if fault == "begins before" and not is_first:
            return {"begins": self._cases.random.choice((None, -21, -20, -19))}
        if not is_last:
            return {}
        changes: dict[str, dict[str, Any]] = {
            "outlives": {"ends": ENDS_S + 1},
            "begins now": {"begins": 0},
            "begins later": {"begins": 5},
            "broken link": {"is_broken": True},
            "never sent": {"is_sent": False},
            "granted to another": {"is_to_another": True},
        }
        return dict(changes.get(fault, {}))

    def _own_with_proof(self) -> None:
        """The owner cites a grant that it does not need."""
        self._line(1)
        self.holder = self._drawn.owner

    def _diamond(self) -> None:
        """Two lines from the owner to one holder, of which both are cited."""
        owner = self._drawn.owner
        one, two, end = self._cases.random.sample(HOLDERS, 3)
        first = self._pass_on(owner, one, self._granted, ())
        second = self._pass_on(owner, two, self._granted, ())
        third = self._pass_on(one, end, self._granted, (first,))
        changes = self._link_changes(is_first=False, is_last=True)
        changes.pop("is_to_another", None)
        fourth = self._pass_on(two, end, self._granted, (second,), **changes)
        self.line = [first, third]
        self.holder, self.proofs = end, (third, fourth)

    def _joined(self) -> None:
        """A holder passes on the grants of two owners in one token."""
        other = self._other_owner()
        one, end = self._cases.random.sample(HOLDERS, 2)
        theirs = Right(f"tinycloud:{self._cases.names[other][4:]}:default/kv/b", "tinycloud.kv/get")
        first = self._pass_on(self._drawn.owner, one, self._granted, ())
        second = self._pass_on(other, one, (theirs,), (), is_cacao=other != "K0")
        third = self._pass_on(one, end, (*self._granted, theirs), (first, second))
        self.line = [first, third]
        self.holder, self.proofs = end, (third,)
        self.asked = (*self.asked, theirs)

    def _split(self) -> None:
        """Two proofs, of which one has the place and the other one the ability."""
        holder = self._cases.random.choice(HOLDERS)
        (right, *_) = self._granted
        elsewhere = f"tinycloud:{self._did[4:]}:default/kv/elsewhere"
        one = replace(right, ability="tinycloud.unknown/thing")
        two = replace(right, resource=elsewhere, caveats=({},))
        if family_of(self._drawn.place) == "sql":
            one = replace(one, caveats=({},))
        first = self._pass_on(self._drawn.owner, holder, (one,), ())
        second = self._pass_on(self._drawn.owner, holder, (two,), ())
        self.holder, self.proofs = holder, (first, second)

    def _owner_between(self) -> None:
        """The owner gets a grant back, and grants again without citing it, or citing it."""
        owner = self._drawn.owner
        one, end = self._cases.random.sample(HOLDERS, 2)
        first = self._pass_on(owner, one, self._granted, ())
        back = self._pass_on(one, owner, self._granted, (first,))
        cited = (back,) if self._cases.chance(0.5) else ()
        third = self._pass_on(owner, end, self._granted, cited)
        self.line = [first, third]
        self.holder, self.proofs = end, (third,)

    def _further_proof(self) -> None:
        """The request cites a second grant to the same holder, which gives nothing of it."""
        self._line(self._cases.random.randint(1, 2))
        other = self._other_owner()
        theirs = Right(f"tinycloud:{self._cases.names[other][4:]}:default/kv/b", "tinycloud.kv/get")
        more = self._pass_on(other, self.holder, (theirs,), (), is_cacao=other != "K0")
        self.proofs = (more, *self.proofs) if self._cases.chance(0.5) else (*self.proofs, more)

    def _shorter_side_parent(self) -> None:
        """A grant cites a second parent that ends earlier; the whole closure ends with it."""
        owner = self._drawn.owner
        one, end = self._cases.random.sample(HOLDERS, 2)
        first = self._pass_on(owner, one, self._granted, ())
        side = self._pass_on(owner, one, self._granted, (), ends=EARLY_S)
        third = self._pass_on(one, end, self._granted, (first, side))
        self.line = [first, third]
        self.holder, self.proofs = end, (third,)
        if self._cases.chance(0.6):
            self._wait(self._cases.random.choice((EARLY_S - 1, EARLY_S, EARLY_S + 1)))

    def _two_long_lines(self) -> None:
        """Two lines whose grants are together more than a closure may hold, or just as many."""
        end = self._cases.random.choice(HOLDERS)
        lines = []
        for length in (32, self._cases.random.choice((32, 33))):
            self._line(length - 1)
            lines.append(self._pass_on(self.holder, end, self._passed, self.proofs))
        self.holder, self.proofs = end, tuple(lines)

    def _other_owner(self) -> str:
        return self._cases.random.choice([one for one in OWNERS if one != self._drawn.owner])

    # --- afterwards -------------------------------------------------------------------------------

    def _wait(self, seconds: int) -> None:
        self._cases.wait(seconds)
        self.waited_s += seconds

    def _afterwards(self) -> None:
        """Append what the fault does to the grants after their registration."""
        cases, fault = self._cases, self._drawn.fault
        if fault == "ends at once":
            self._wait(EARLY_S - self.waited_s)
        elif fault == "ended":
            self._wait(EARLY_S + 1 - self.waited_s)
        if not self.links:
            return
        if fault == "revoked leaf":
            cases.revoke(self._drawn.owner, self.links[-1].label)
        elif fault == "revoked root":
            cases.revoke(self._drawn.owner, self.links[0].label)
        elif fault == "revoked by a stranger":
            cases.revoke(STRANGER, self.links[-1].label)
        elif fault == "revoked sibling":
            sibling = self._pass_on(self._drawn.owner, "K3", self._granted, ())
            cases.revoke(self._drawn.owner, sibling)
