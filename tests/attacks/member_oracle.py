"""Who must be able to read and write the secrets of a team, by what the node acknowledged.

Nothing here asks the node or uses its code for members. The rules are those of `spec/teams.md`,
written a second time over a list of delegations, the ones that ended, and the stored values.

Example:
    ledger.ended.add(membership.cid)
    assert not ledger.may_open(session, "API_KEY", now)
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from attacks.parties import Delegate
from attacks.team_parties import Person
from running_node import id_of

from capabilities.memberships import Role
from encryption_network.envelope import InlineEnvelope, encode_envelope

Kind = Literal["session", "token", "program", "thief", "stranger"]


@dataclass(kw_only=True, eq=False)
class Link:
    """A delegation that the node acknowledged.

    Attributes:
        token: as it was registered.
        signer: DID of whoever signed it.
        delegate: DID of the recipient.
        ends_at: epoch seconds.
        above: the delegation that it cites; None: the team's wallet signed it.
        is_of_team: whether it grants rights of the team.
    """

    token: str
    signer: str
    delegate: str
    ends_at: float
    above: "Link | None" = None
    is_of_team: bool = True

    @cached_property
    def cid(self) -> str:
        """Id of the delegation."""
        return id_of(self.token)


@dataclass(kw_only=True, eq=False)
class Joined(Link):
    """A membership.

    Attributes:
        person: the member.
        role: of the member.
        names: the secrets that it lists; empty: all.
    """

    person: Person
    role: Role
    names: tuple[str, ...]

    def covers(self, name: str) -> bool:
        """Return whether the membership is for a secret."""
        return not self.names or name in self.names


@dataclass(kw_only=True, eq=False)
class Party:
    """Somebody with a key who tries to read and to write everything.

    Attributes:
        kind: what the key was given.
        key: signs the requests, and cites the sign-in, the token or the grant.
        link: that delegation; None for parties that were given nothing.
        membership: of the member who signed in, or who signed the token or the grant.
        writes: whether a session was given the rights of a writer.
        removes: whether a session was given the right to revoke.
        names: the secrets that a token lists, or to which a policy limits a program.
        fetches: the secrets whose envelopes a program may fetch.
        evidence_ends_at: epoch seconds at which a program must attest again.
    """

    kind: Kind
    key: Delegate
    link: Link | None = None
    membership: Joined | None = None
    writes: bool = False
    removes: bool = False
    names: tuple[str, ...] = ()
    fetches: tuple[str, ...] = ()
    evidence_ends_at: float = 0.0

    @property
    def joined(self) -> Joined:
        """The membership of a party that has one."""
        assert self.membership is not None
        return self.membership

    @property
    def label(self) -> str:
        """The kind, for counts and messages."""
        return self.joined.role if self.kind == "session" else self.kind


@dataclass(frozen=True, eq=False)
class Value:
    """A value that was encrypted for the team's network."""

    envelope: InlineEnvelope
    text: bytes

    @property
    def body(self) -> bytes:
        """The envelope as it is stored."""
        return encode_envelope(self.envelope)


@dataclass
class Ledger:
    """The acknowledged operations, and what follows from them.

    Attributes:
        ended: ids of the delegations that were revoked.
        latest: the value that was last stored as each secret.
        present: the secrets that are not deleted.
        places: all secrets that have ever stored a value.
        moved: whether the team has moved to another wallet (TM18).
    """

    ended: set[str] = field(default_factory=set)
    latest: dict[str, Value] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    places: dict[Value, set[str]] = field(default_factory=dict)
    moved: bool = False

    # --- what was acknowledged --------------------------------------------------------------------

    def store(self, name: str, value: Value) -> None:
        """Note that a value was stored as a secret."""
        self.latest[name] = value
        self.present.add(name)
        self.places.setdefault(value, set()).add(name)

    # --- what follows -----------------------------------------------------------------------------

    def is_live(self, link: Link | None, now: float) -> bool:
        """Return whether neither a delegation nor any above it is revoked or over."""
        if link is None or (self.moved and link.is_of_team):
            return False
        while link is not None:
            if link.cid in self.ended or now >= link.ends_at:
                return False
            link = link.above
        return True

    def is_admin(self, membership: Joined | None, now: float) -> bool:
        """Return whether a membership is that of an admin who is still one."""
        return (
            membership is not None and membership.role == "admin" and self.is_live(membership, now)
        )

    def may_fetch(self, party: Party, name: str, now: float) -> bool:
        """Return whether a party may fetch the envelope of a secret."""
        if not self.is_live(party.link, now):
            return False
        if party.kind == "session":
            return party.joined.covers(name)
        if party.kind == "token":
            return name in party.names
        return name in party.fetches

    def may_write(self, party: Party, name: str, now: float) -> bool:
        """Return whether a party may store and delete a secret."""
        if party.kind != "session" or not party.writes or not self.is_live(party.link, now):
            return False
        return party.joined.role != "reader" and party.joined.covers(name)

    def may_remove(self, party: Party, now: float) -> bool:
        """Return whether a party may end what grants rights of the team, as an admin (TM7)."""
        return (
            party.kind == "session"
            and party.removes
            and self.is_live(party.link, now)
            and self.is_admin(party.membership, now)
        )

    def may_open(self, party: Party, name: str, now: float) -> bool:
        """Return whether a party gets the content key of the latest value of a secret."""
        if not self.is_live(party.link, now):
            return False
        value = self.latest[name]
        if party.kind == "session":
            listed = party.joined.names
            return not listed or self._is_only_at(value, listed)
        if party.kind == "token":
            return self._is_only_at(value, party.names)
        if party.kind != "program" or not self.is_admin(party.membership, now):
            return False
        if party.names:
            return self._is_only_at(value, party.names)
        return len(self.places[value]) == 1

    def _is_only_at(self, value: Value, listed: tuple[str, ...]) -> bool:
        """Return whether a value is stored now as a listed secret, and never was as another."""
        place, *others = self.places[value]
        is_there = place in self.present and self.latest[place] is value
        return is_there and not others and place in listed
