"""A team whose two admins have been admins for more than a week, and that moves to another wallet.

Example:
    moved = await moved_team(bench)
    assert (await moved.admins[0].client.team_moves.succession(moved.team)) is not None
"""

from dataclasses import dataclass, field
from typing import Any

from delegation_cache import clear_delegation_cache
from msgspec import structs

from capabilities.principals import parse_principal
from capabilities.successions import NOTICE_S, SENIORITY_S
from node.services import Services
from sealspace.client import Client
from sealspace.documents.successions import move_line
from sealspace.wallets import AnyWallet
from spaces.grants.delegations import decode_delegation, registration_puts
from spaces.grants.successions import Succession, succession_key, succession_put
from spaces.store.contract import Commit, Committed, Range, Store, pages_of


@dataclass
class Admin:
    """Somebody with a wallet, and a client that acts for the team."""

    client: Client
    wallet: AnyWallet
    acting: Client

    @property
    def did(self) -> str:
        return self.client.session.owner


@dataclass
class MovableTeam:
    """A team with two secrets.

    Attributes:
        bench: the node and its clock.
        team: DID of the team's wallet.
        admins: two admins whom the team's wallet admitted.
        seed: the key of the new wallet.
        statement: token of the first statement, once it is signed.
    """

    bench: Any
    team: str
    admins: list[Admin]
    seed: bytes = bytes(range(100, 132))
    statement: str = ""
    values: dict[str, str | bytes] = field(default_factory=dict)

    async def members(self) -> tuple[Any, ...]:
        """Return the live memberships, as an admin sees them."""
        return (await self.admins[0].acting.teams.members()).live

    async def name(self) -> str:
        """Make the new wallet, sign the first statement, and return the line."""
        first = self.admins[0]
        prepared = await first.client.team_moves.prepare(self.seed, await self.members())
        grant = await first.acting.team_moves.name(prepared.team, wallet=first.wallet)
        self.statement = grant.header
        self.bench.clock.advance(NOTICE_S + 1)
        return move_line(
            node=first.client.url,
            node_did=await self.node_did(),
            statement=grant.header,
        )

    async def node_did(self) -> str:
        """Return the DID of the node."""
        return (await self.admins[0].client.info()).node_id

    async def countersign(self, line: str) -> None:
        """Let the second admin sign."""
        second = self.admins[1]
        statement = await second.acting.team_moves.examine(line)
        await second.acting.team_moves.countersign(statement, wallet=second.wallet)


async def movable_team(bench: Any) -> MovableTeam:
    """Return a team that can move."""
    people = [await bench.owner() for _ in range(2)]
    client, _ = people[0]
    other, _ = people[1]
    created = await client.teams.create([other.session.owner])
    bench.clock.advance(SENIORITY_S + 60)
    admins = []
    for person, wallet in people:
        await person.sign_in(wallet)  # the first sign-in has ended
        membership = await person.teams.membership(created.team)
        acting = person.acting(await person.teams.sign_in(wallet, membership))
        admins.append(Admin(person, wallet, acting))
    team = MovableTeam(bench, created.team, admins)
    team.values = {"API_KEY": "open sesame", "BLOB": b"\0\1"}
    for name, value in team.values.items():
        await admins[0].acting.secrets().put(name, value)
    return team


async def moved_team(bench: Any) -> MovableTeam:
    """Return a team that has moved, without its values."""
    team = await movable_team(bench)
    await team.countersign(await team.name())
    return team


async def make_older(services: Services, seconds: float) -> None:
    """Let every delegation of a node have been registered earlier, as if time had passed."""
    await let_age(services.store, seconds)
    clear_delegation_cache(services)


async def let_age(store: Store, seconds: float) -> None:
    """Let every delegation of a store have been registered earlier."""
    async for page in pages_of(store, Range(b"G")):
        for key, record in page.rows:
            found = decode_delegation(record)
            assert found is not None
            earlier = structs.replace(found, registered_at=found.registered_at - seconds)
            row = structs.replace(registration_puts(earlier)[0], key=key, expect=record.stamp)
            assert isinstance(await store.commit(Commit(puts=(row,))), Committed)


async def write_move(store: Store, owner: str, successor: str) -> None:
    """Write that an owner has moved, without the statements of two admins."""
    did = parse_principal(owner)
    (record,) = (await store.read((succession_key(did),))).records
    moved = Succession(owner=did, successor=parse_principal(successor), at=1.0)
    assert isinstance(await store.commit(Commit(puts=(succession_put(moved, record),))), Committed)
