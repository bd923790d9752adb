"""Tests of the rows that reads of shared copies leave for the owner (RC33 to RC36)."""

import json
import random
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from audit_records import audit_records
from backend_site import OWNER_ABILITIES
from embedded_node import embedded_node
from msgspec.structs import replace
from relay import Answer, relay_before
from running_node import key_token, send

from capabilities.abilities import KV_GET, KV_METADATA, READ_RECEIPTS
from node.config.tree import Config, Http, Retention, Store
from node.housekeeping.schedule import sweep_receipts
from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.errors import (
    MalformedAnswer,
    NotFound,
    NotGranted,
    SealspaceError,
    StoreFull,
    ValueTooLarge,
)
from sealspace.kv import Kv
from sealspace.receipts import CopyFetch
from sealspace.secrets import Secrets
from sealspace.session import key_session
from sealspace.wallets import AnyWallet, new_wallet
from spaces.keyspace import FETCHES_PREFIX
from spaces.store.contract import Range, read_page

HOUR_S = 3600


class Person(NamedTuple):
    """An owner with a wallet and a client."""

    client: Client
    wallet: AnyWallet

    @property
    def did(self) -> str:
        return self.client.session.owner

    async def share(self, person: "Person", *labels: str, team: str | None = None) -> str:
        """Share secrets, and return the path of the copies' folder."""
        sharing = self.client.sharing
        shared = await sharing.share(labels, person.did, team=team, wallet=lambda: self.wallet)
        return shared.folder.path

    async def source(self, owner: "Person", team: str | None = None) -> Secrets:
        return await self.client.sharing.received(owner.did, team=team, wallet=lambda: self.wallet)

    def values_of(self, owner: "Person") -> Kv:
        """Return the values of an owner's space `secrets`, for requests of any kind."""
        return self.client.kv(owner.client.kv("secrets").space.text)

    async def fetches(self) -> list[CopyFetch]:
        return [one async for one in self.client.receipts.fetches()]

    async def seen(self) -> Counter[tuple[str, str]]:
        """Return who fetched copies of which secrets, and in how many rows."""
        return Counter((one.reader, one.label) for one in await self.fetches())


async def person(bench: Any) -> Person:
    return Person(*await bench.owner(SignIn(network_abilities=OWNER_ABILITIES)))


@pytest.fixture
async def alice(bench: Any) -> Person:
    """An owner with two secrets."""
    alice = await person(bench)
    await alice.client.secrets().put("API_KEY", "open sesame")
    await alice.client.secrets().put("TOKEN", b"\0\1", scope="ci")
    return alice


@pytest.fixture
async def bob(bench: Any) -> Person:
    return await person(bench)


async def test_RC33_an_owner_sees_who_fetched_a_copy(
    bench: Any, alice: Person, bob: Person
) -> None:
    """A fetch has reader, name, version and hour, and is in the audit chain."""
    await alice.share(bob, "API_KEY")
    bench.clock.advance(100)
    assert await (await bob.source(alice)).get("API_KEY") == "open sesame"
    (fetch,) = await alice.fetches()
    folder = (await alice.client.sharing.shares())[0].folder.path
    value = await alice.client.kv("secrets").metadata(f"{folder}API_KEY")
    assert fetch.reader == bob.did  # and not the key of Bob's session
    assert fetch.label == "API_KEY"
    assert fetch.path == f"{folder}API_KEY"
    assert fetch.space == alice.client.kv("secrets").space.text
    assert fetch.version == 1
    assert f'"blake3-{fetch.etag}"' == value.etag
    assert fetch.at == bench.clock.now()
    assert fetch.hour == bench.clock.now() // HOUR_S * HOUR_S
    records = await audit_records(bench.node.services.store)
    (recorded,) = [one for one in records if one.action == "copy.fetched"]
    assert recorded.actor == bob.client.session.did
    assert recorded.subject == f"{fetch.space}/kv/{fetch.path}"
    assert bob.did in recorded.detail.decode()


async def test_RC34_one_row_for_each_reader_version_and_hour(
    bench: Any, alice: Person, bob: Person
) -> None:
    """Repeated reads within an hour leave one row; another hour or version leaves another."""
    await alice.share(bob, "API_KEY")
    source = await bob.source(alice)
    start = bench.clock.now() // HOUR_S * HOUR_S + HOUR_S
    bench.clock.time = start
    for at_s, rows in ((0, 1), (10, 1), (HOUR_S - 1, 1), (HOUR_S, 2)):
        bench.clock.time = start + at_s
        assert await source.get("API_KEY") == "open sesame"
        assert await alice.seen() == {(bob.did, "API_KEY"): rows}
    await alice.client.sharing.put_many({"API_KEY": "new"})
    assert await source.get("API_KEY") == "new"
    # Two of them are of one second, in which rows have no order of their own.
    assert sorted(one.version for one in await alice.fetches()) == [1, 1, 2]
    assert (await alice.fetches())[0].at == start
    later = [one async for one in alice.client.receipts.fetches(since=start + 1)]
    assert [one.at for one in later] == [start + HOUR_S] * 2


async def test_RC33_several_readers_teams_and_batches(
    bench: Any, alice: Person, bob: Person
) -> None:
    """Each reader has rows of their own, also for several copies in one request."""
    carol = await person(bench)
    folder = await alice.share(bob, "API_KEY", "ci/TOKEN", team="ops")
    await alice.share(carol, team="ops")
    await alice.share(carol, "API_KEY")
    assert await alice.seen() == {}
    team = await carol.source(alice, "ops")
    assert await team.get_many(["API_KEY", "NOTHING"]) == {"API_KEY": "open sesame"}
    assert await team.get_many(["TOKEN"], scope="ci") == {"TOKEN": b"\0\1"}
    assert await (await carol.source(alice, "")).get("API_KEY") == "open sesame"
    await bob.source(alice)
    paths = [f"{folder}API_KEY", f"{folder}scoped/ci/TOKEN", f"{folder}NOTHING"]
    assert len(await bob.values_of(alice).get_many(paths)) == 2
    assert await alice.seen() == {
        (carol.did, "API_KEY"): 2,  # one in the team's folder, and one in Carol's own
        (carol.did, "ci/TOKEN"): 1,
        (bob.did, "API_KEY"): 1,
        (bob.did, "ci/TOKEN"): 1,
    }


async def test_RC33_what_leaves_no_row(alice: Person, bob: Person) -> None:
    """Lists, metadata, answers without a body, refusals, and reads by the owner leave no row."""
    path = f"{await alice.share(bob, 'API_KEY')}API_KEY"
    own = alice.client.kv("secrets")
    etag = (await own.get(path)).etag
    await own.get_many([path, "vault/secrets/API_KEY"])
    await own.signed_url(path)
    await alice.client.secrets().get("API_KEY")
    assert await (await bob.source(alice)).list() == ("API_KEY",)
    kv = bob.values_of(alice)
    place = own.space.text
    describing = [allow(f"{place}/kv/{one}", KV_METADATA) for one in (path, f"{path}2")]
    await bob.client.delegations.accept(
        await alice.client.delegations.delegate(bob.client.session.did, describing)
    )
    await kv.metadata(path)
    await kv.metadata_many([path, f"{path}2"])
    assert await kv.get_if_changed(path, etag) is None
    with pytest.raises(ValueTooLarge):
        await kv.get(path, max_bytes=1)
    with pytest.raises(NotFound):
        await kv.get(f"{path}2")
    assert await alice.fetches() == []
    await kv.get(path)
    assert await alice.seen() == {(bob.did, "API_KEY"): 1}


@pytest.mark.parametrize(
    ("space", "path", "is_envelope"),
    [
        ("secrets", "vault/secrets/API_KEY", True),
        ("secrets", "vault/secrets/shared", True),
        ("default", "vault/secrets/shared/API_KEY", True),
        ("secrets", "vault/secrets/shared/API_KEY", False),
    ],
)
async def test_RC33_other_values(
    alice: Person, bob: Person, space: str, path: str, is_envelope: bool
) -> None:
    """Values outside the folder of copies, in other spaces, or without an envelope leave no row."""
    own = alice.client.kv("secrets")
    envelope = (await own.get("vault/secrets/API_KEY")).body
    await alice.client.kv(space).put(path, envelope if is_envelope else b"a note")
    place = alice.client.kv(space).space.text
    portable = await alice.client.delegations.delegate(
        bob.client.session.did, [allow(f"{place}/kv/{path}", KV_GET)]
    )
    await bob.client.delegations.accept(portable)
    await bob.client.kv(place).get(path)
    await bob.client.kv(place).get_many([path])
    assert await alice.fetches() == []


async def test_RC33_a_large_copy(alice: Person, bob: Person) -> None:
    """A copy in a file counts, although the node has not examined it."""
    await alice.client.secrets().put("LARGE", "x" * 100_000)
    await alice.share(bob, "LARGE")
    assert await (await bob.source(alice)).get("LARGE") == "x" * 100_000
    assert await alice.seen() == {(bob.did, "LARGE"): 1}


async def test_RC33_who_the_reader_is(bench: Any, alice: Person, bob: Person) -> None:
    """The reader is the recipient of the owner's grant, also for keys to which it was passed on,
    and for a grant by the owner's session."""
    path = f"{await alice.share(bob, 'API_KEY')}API_KEY"
    place = alice.client.kv("secrets").space.text
    right = [allow(f"{place}/kv/{path}", KV_GET)]
    helper = await bench.client(key_session(bytes([7]) * 32))
    await bob.source(alice)
    await helper.delegations.accept(
        await bob.client.delegations.delegate(helper.session.did, right)
    )
    await helper.kv(place).get(path)
    assert await alice.seen() == {(bob.did, "API_KEY"): 1}
    program = await bench.client(key_session(bytes([8]) * 32))
    await program.delegations.accept(
        await alice.client.delegations.delegate(program.session.did, right)
    )
    await program.kv(place).get(path)
    seen = {(bob.did, "API_KEY"): 1, (program.session.owner, "API_KEY"): 1}
    assert await alice.seen() == seen
    # With rights of two persons, it is not known who read, so the key is named.
    of_program = await program.delegations.delegate(helper.session.did, right)
    call = key_token(
        helper.session.signer,
        bench.node.services.keyring.node_did,
        {f"{place}/kv/{path}": [KV_GET]},
        proofs=[*[grant.header for grant in helper.session.grants], of_program.header],
        ends_at=bench.clock.now() + 60,
    )
    assert (await send(bench.node.url, "POST", "/invoke", token=call)).status == 200
    assert await alice.seen() == seen | {(helper.session.did, "API_KEY"): 1}


async def test_RC33_who_cites_anothers_grant_is_named(
    bench: Any, alice: Person, bob: Person
) -> None:
    """A reader who cites the owner's grant to somebody else, by way of a delegation of own rights,
    is named all the same."""
    path = f"{await alice.share(bob, 'API_KEY')}API_KEY"
    resource = f"{alice.client.kv('secrets').space.text}/kv/{path}"
    granted = [one async for one in alice.client.delegations.query(direction="granted")]
    (to_bob,) = [one.cid for one in granted if one.delegate == bob.did]
    eve = key_session(bytes([9]) * 32).signer
    portable = await alice.client.delegations.delegate(eve.did, [allow(resource, KV_GET)])
    node_did = bench.node.services.keyring.node_did
    ends_at = bench.clock.now() + 60
    own = {f"tinycloud:{eve.did[4:]}:default/kv": [KV_GET]}
    lure = key_token(eve, eve.did, own, proofs=[to_bob], ends_at=ends_at)
    for token in (portable.header, lure):
        assert (await send(bench.node.url, "POST", "/delegate", token=token)).status == 200
    for proofs in ([lure, portable.header], [portable.header, lure]):
        call = key_token(eve, node_did, {resource: [KV_GET]}, proofs=proofs, ends_at=ends_at)
        assert (await send(bench.node.url, "POST", "/invoke", token=call)).status == 200
    assert await alice.seen() == {(eve.did, "API_KEY"): 1}


async def test_RC33_a_signed_url_counts_when_it_is_made(
    bench: Any, alice: Person, bob: Person
) -> None:
    """The creation of a signed URL for a copy leaves the row, and its uses leave no more."""
    path = f"{await alice.share(bob, 'API_KEY')}API_KEY"
    await bob.source(alice)
    for _ in range(2):
        url = (await bob.values_of(alice).signed_url(path)).url
        (fetch,) = await alice.fetches()
        assert (fetch.reader, fetch.label, fetch.version) == (bob.did, "API_KEY", 1)
    reply = await send(bench.node.url, "GET", url.removeprefix(bench.node.url))
    assert reply.status == 200
    assert len(await alice.fetches()) == 1
    with pytest.raises(SealspaceError):
        await bob.values_of(alice).signed_url(f"{path}2")
    assert len(await alice.fetches()) == 1
    later = (await bob.values_of(alice).signed_url(path, etag=f'"blake3-{"0" * 64}"')).url
    assert later
    assert [one.version for one in await alice.fetches() if one.etag == "0" * 64] == [0]


async def test_RC33_a_full_store_returns_no_copy(tmp_path: Path) -> None:
    """A full store refuses a copy whose fetch it cannot record, although it accepts small values.
    The owner's own reads, and reads with a row of this hour, succeed (ST17)."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path / "data")))
    people: list[Person] = []
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(embedded_node(config))
        for _ in range(2):
            client = await stack.enter_async_context(Client(node.url))
            wallet = new_wallet()
            await client.sign_in(wallet, SignIn(network_abilities=OWNER_ABILITIES))
            people.append(Person(client, wallet))
        alice, bob = people
        await alice.client.secrets().put_many({"FIRST": "1", "SECOND": "2"})
        folder = await alice.share(bob, "FIRST", "SECOND")
        assert await (await bob.source(alice)).get("FIRST") == "1"
        place = alice.client.kv("secrets").space.text
        sessions = [one.client.session for one in people]
    full = replace(config, store=replace(config.store, max_bytes=1))
    async with (
        embedded_node(full) as node,
        Client(node.url, session=sessions[0]) as owner,
        Client(node.url, session=sessions[1]) as reader,
    ):
        await owner.kv().put("small", "1")
        assert (await reader.kv(place).get(f"{folder}FIRST")).body
        for _ in range(2):
            with pytest.raises(StoreFull):
                await reader.kv(place).get(f"{folder}SECOND")
        with pytest.raises(StoreFull):
            await reader.kv(place).get_many([f"{folder}FIRST", f"{folder}SECOND"])
        assert (await owner.kv("secrets").get(f"{folder}SECOND")).body
        assert [one.label async for one in owner.receipts.fetches()] == ["FIRST"]


# --- the list -------------------------------------------------------------------------------------


async def test_RC35_fetches_come_in_pages(bench: Any, alice: Person, bob: Person) -> None:
    """A client reads all fetches in the order of their hours, each once; another network has
    none."""
    await alice.share(bob, "API_KEY")
    source = await bob.source(alice)
    for _ in range(103):
        await source.get("API_KEY")
        bench.clock.advance(HOUR_S)
    client = await bench.client()
    await client.sign_in(alice.wallet, SignIn(network_abilities=OWNER_ABILITIES))
    hours = [one.hour async for one in client.receipts.fetches()]
    assert hours == sorted(set(hours)) and len(hours) == 103
    other = client.encryption.network("other")
    rights = [allow(other.text, one) for one in OWNER_ABILITIES]
    await client.delegations.add_right(alice.wallet, rights)
    await client.encryption.ensure_network("other")
    assert [one async for one in client.receipts.fetches(other)] == []


async def test_RC35_who_may_list_fetches(bench: Any, alice: Person, bob: Person) -> None:
    """The owner and a delegate with the right to receipts can list fetches, others cannot."""
    await alice.share(bob, "API_KEY")
    await (await bob.source(alice)).get("API_KEY")
    network = alice.client.encryption.network()
    with pytest.raises(NotGranted):
        await anext(bob.client.receipts.fetches(network))
    portable = await alice.client.delegations.delegate(
        bob.client.session.did, [allow(network.text, READ_RECEIPTS)]
    )
    await bob.client.delegations.accept(portable)
    assert [one.label async for one in bob.client.receipts.fetches(network)] == ["API_KEY"]
    await alice.client.delegations.revoke(portable)
    with pytest.raises(SealspaceError):
        await anext(bob.client.receipts.fetches(network))


async def test_RC36_fetches_are_kept_as_long_as_receipts(bench_with: Any, config: Config) -> None:
    """Fetches are deleted with the receipts of the same time."""
    bench = await bench_with(replace(config, retention=Retention(receipts_days=90)))
    alice, bob = await person(bench), await person(bench)
    await alice.client.secrets().put("API_KEY", "open sesame")
    await alice.share(bob, "API_KEY")
    await (await bob.source(alice)).get("API_KEY")
    for days, rows in ((89, 1), (2, 0)):
        bench.clock.advance(days * 86_400)
        while await sweep_receipts(bench.node.services):
            pass
        page = await read_page(bench.node.services.store, Range(FETCHES_PREFIX))
        assert len(page.rows) == rows


FETCH = {
    "reader": "did:key:z6Mk",
    "space": "tinycloud:key:z6Mk:secrets",
    "path": "vault/secrets/shared/x",
    "version": 1,
    "etag": "0" * 64,
    "hour": 7200,
    "atMicros": 7_200_000_000,
}


@pytest.mark.parametrize(
    "said",
    [
        [],
        {"fetches": []},
        {"fetches": [{}], "after": None},
        {"fetches": [FETCH | {"etag": "x"}], "after": None},
        {"fetches": [FETCH | {"version": -1}], "after": None},
        {"fetches": [FETCH] * 101, "after": None},
        {"fetches": [FETCH, FETCH | {"hour": 3600}], "after": None},
        {"fetches": [], "after": "00"},
    ],
)
async def test_a_list_by_a_lying_node(bench: Any, alice: Person, said: object) -> None:
    """A malformed list of fetches is refused."""

    def twist(answer: Answer) -> None:
        if answer.path.endswith("/fetches"):
            answer.body = json.dumps(said).encode()

    async with relay_before(bench.node.url) as relay:
        relay.twist = twist
        client = Client(relay.url, session=alice.client.session, clock=bench.clock)
        async with client:
            with pytest.raises(MalformedAnswer):
                async for _ in client.receipts.fetches():
                    pass


# --- any sequence ---------------------------------------------------------------------------------


class Office:
    """An owner who shares two secrets with two people, and the rows that have to be there."""

    def __init__(self, bench: Any, alice: Person, readers: list[Person], chance: random.Random):
        self.bench, self.alice, self.readers, self.chance = bench, alice, readers, chance
        self.expected: set[tuple[str, str, str, int]] = set()
        self.values: dict[str, str] = {}

    async def change(self) -> None:
        """Do one of the things that an owner does."""
        label = self.chance.choice(LABELS)
        reader = self.chance.choice(self.readers)
        team = self.chance.choice((None, "ops"))
        match self.chance.randrange(4):
            case 0:
                await self.alice.share(reader, label, team=team)
            case 1:
                with suppress(SealspaceError):
                    await self.alice.client.sharing.unshare(
                        None, did=self.chance.choice((None, reader.did)), team=team
                    )
            case 2:
                self.values[label] = f"value {self.chance.random()}"
                await self.alice.client.sharing.put_many({label: self.values[label]})
            case _:
                self.bench.clock.advance(self.chance.choice((60, 1800, HOUR_S)))
        await self.alice.client.secrets().get_many(LABELS)

    async def read(self) -> int:
        """Have one of the people try to read; return the number of values that were obtained."""
        reader, labels = self.chance.choice(self.readers), self.chance.sample(LABELS, 2)
        try:
            source = await reader.source(self.alice, self.chance.choice(("", "ops")))
            names = await source.list()
            if not self.chance.randrange(3):  # neither a list nor metadata is a read
                return 0
            values = await source.get_many(labels[: self.chance.randrange(1, 3)])
        except SealspaceError:
            return 0
        assert set(values) <= set(names)
        hour = int(self.bench.clock.now()) // HOUR_S * HOUR_S
        for label, value in values.items():
            self.expected.add((reader.did, label, str(value), hour))
        return len(values)


LABELS = ("API_KEY", "DB_URL")


@pytest.mark.parametrize("seed", range(3))
async def test_RC33_any_sequence(bench: Any, seed: int) -> None:
    """Every value that somebody else obtained has its row, and no row is there without a read."""
    chance = random.Random(seed)
    office = Office(bench, await person(bench), [await person(bench) for _ in range(2)], chance)
    office.values = dict.fromkeys(LABELS, "first")
    await office.alice.client.secrets().put_many(office.values)
    # The value in each version of a copy, by the digest that a row has.
    value_of: dict[str, str] = {}
    obtained = 0
    for _ in range(30):
        await office.change()
        kv = office.alice.client.kv("secrets")
        for path in [path async for path in kv.list("vault/secrets/shared/")]:
            etag = (await kv.metadata(path)).etag.removeprefix('"blake3-').removesuffix('"')
            value_of.setdefault(etag, office.values[path.rpartition("/")[2]])
        for _ in range(2):
            obtained += await office.read()
        rows = await office.alice.fetches()
        assert {(one.reader, one.label, value_of[one.etag], one.hour) for one in rows} == (
            office.expected
        )
    assert obtained > 5
