"""A team that moves to another wallet, with admins who have been admins for long enough.

Example:
    world = await MovingTeam.begin(held)
    await world.move()
    await world.compare()           # nobody reads or writes any more
"""

from dataclasses import dataclass, field
from typing import Any

from attacks.held_store import HeldStage
from attacks.member_oracle import Joined, Party
from attacks.member_world import MemberWorld
from attacks.parties import GET, LIST, SECRET, Delegate, Stage, ids
from attacks.team_parties import METADATA, Person, membership, rights_on
from running_node import Grants, Reply, wallet_token

from capabilities.cids import cid_text
from capabilities.memberships import Role
from capabilities.strict_json import Json
from capabilities.successions import NOTICE_S, SENIORITY_S
from capabilities.tokens import parse_delegation

MONTH_S = 30 * 86_400.0


@dataclass
class MovingTeam:
    """A team with two admins whom its wallet admitted more than a week ago, and its members.

    Attributes:
        world: everybody who tries to read and to write.
        admins: the two.
        heir: the wallet to which the team moves.
        statements: the two that moved it.
    """

    world: MemberWorld
    admins: list[Joined] = field(default_factory=list)
    heir: Person = field(default_factory=Person)
    statements: list[str] = field(default_factory=list)

    @classmethod
    async def begin(cls, stage: HeldStage) -> "MovingTeam":
        """Make a team with two old admins, members, and a machine token."""
        team = await cls.found(stage)
        team.pause(SENIORITY_S + 60)
        await team.fill()
        return team

    @classmethod
    async def found(cls, stage: Stage) -> "MovingTeam":
        """Make a team with two new admins."""
        team = cls(await MemberWorld.begin(stage))
        for _ in range(2):
            team.admins.append(await team.admitted("admin"))
        return team

    async def fill(self) -> None:
        """Sign the admins in, and admit further members; let an admin make a machine token."""
        for joined in self.admins:
            await self.signed_in(joined)
        await self.signed_in(await self.admitted("writer"))
        await self.signed_in(await self.admitted("reader", SECRET))
        await self.signed_in(await self.admitted("reader", by=self.admins[0]))
        token = await self.world.make_token(self.admins[0], SECRET)
        assert token is not None
        self.world.parties.append(Party(kind="stranger", key=Delegate()))
        await self.world.grant_of_stranger()

    @property
    def stage(self) -> Stage:
        """Where the next request goes."""
        return self.world.stage

    async def admitted(self, role: Role, *names: str, by: Joined | None = None) -> Joined:
        """Admit a new person for a month."""
        joined = await self.world.admit(Person(), role, *names, by=by, ttl_s=MONTH_S)
        assert joined is not None
        return joined

    async def signed_in(self, joined: Joined) -> Party:
        """Sign a member in, with all rights of the role."""
        party = await self.world.sign_in(joined, joined.role, ttl_s=86_400)
        assert party is not None
        return party

    # --- statements -------------------------------------------------------------------------------

    def statement(
        self,
        signer: Joined | None,
        *,
        countersigns: str | None = None,
        heir: Person | None = None,
        changes: dict[str, Json] | None = None,
        ttl_s: float = MONTH_S / 3,
        **more: Any,
    ) -> str:
        """Return a statement of the succession; None: the team's own wallet signs it."""
        ends_at = self.world.end(ttl_s, signer)
        stated: dict[str, Json] = {"role": "successor", "end": ends_at}
        if countersigns is not None:
            stated["countersigns"] = countersigns
        by = None if signer is None else Person(signer.person.wallet, signer.token)
        return membership(
            self.world.team,
            heir or self.heir,
            "reader",
            by=by,
            changes=stated | (changes or {}),
            ends_at=ends_at,
            **more,
        )

    def pause(self, seconds: float = NOTICE_S + 1) -> None:
        """Let time pass between the two statements."""
        self.world.ahead_s += seconds
        self.world.now()

    async def first(self, signer: Joined | None = None, **more: Any) -> str:
        """Register a first statement, wait as long as it takes, and return its cid."""
        token = self.statement(signer or self.admins[0], **more)
        await self.stage.register(token)
        self.pause()
        return cid_of(token)

    async def countersign(self, cid: str, signer: Joined | None = None, **more: Any) -> Reply:
        """Send a second statement."""
        token = self.statement(signer or self.admins[1], countersigns=cid, **more)
        return await self.stage.post("/delegate", token)

    async def move(self) -> None:
        """Move the team."""
        first = self.statement(self.admins[0])
        await self.stage.register(first)
        self.pause()
        second = self.statement(self.admins[1], countersigns=cid_of(first))
        await self.stage.register(second)
        self.statements = [first, second]
        self.world.ledger.moved = True

    # --- afterwards -------------------------------------------------------------------------------

    async def compare(self) -> None:
        """Let everybody try everything, and compare with the oracle."""
        await self.world.compare_parties()

    async def successor(self, token: str, *, person: Person | None = None) -> Delegate:
        """Sign the successor in under a statement, with all its rights."""
        key = Delegate()
        sign_in = wallet_token(
            (person or self.heir).wallet,
            key.did_url,
            rights_on(self.world.team, "reader"),
            parents=ids(token),
            ends_at=self.world.end(3_600),
        )
        reply = await self.stage.post("/delegate", sign_in)
        assert reply.status == 200, reply.said
        key.proofs = [sign_in]
        return key

    def reading(self, name: str) -> tuple[Grants, ...]:
        """Return what a successor may invoke."""
        resource = self.world.resource(name)
        return ({resource: [GET]}, {resource: [METADATA]}, {self.folder: [LIST]})

    @property
    def folder(self) -> str:
        """Resource of all secrets."""
        return self.world.resource(SECRET).removesuffix(SECRET)


def cid_of(token: str) -> str:
    """Return the cid of a delegation."""
    return cid_text(parse_delegation(token).cid)


def moved_text(team: MovingTeam) -> str:
    """Return how a node refuses what depends on the team's former wallet."""
    return f"Owner moved: {team.world.team.wallet.did} is now {team.heir.did}"
