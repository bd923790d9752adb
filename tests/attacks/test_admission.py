"""Tests of a node in mode `permit`, where the operator admits and removes owners at run time."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks.held_store import HeldStage
from attacks.parties import GET, PUT, Delegate
from attacks.test_hosting import (
    CREATE,
    CREATE_NETWORK,
    HOST,
    PEER,
    WAYS,
    Way,
    creation_by_a_key,
    default_network,
    has_network,
    hosted_in_all,
    hosting_stage,
    own_space,
    put_of_a_key,
    reported,
    sign_in_of_a_wallet,
)
from attacks.test_races import meanwhile, puts_row
from attacks.test_withdrawals import data_of
from audit_records import audit_records
from deviating_platform import SimulatedPlatform
from engines import database_of, is_on_postgresql
from running_node import RunningNode, new_key, running_node, send, wallet_token
from tests_support import CountingEntropy

from capabilities.principals import Principal, parse_principal
from capabilities.signatures import WalletSigner
from node.config.tree import Hosting
from node.operations.values.admission import change_admission
from sealspace.cli.root import main
from sealspace.wallets import new_wallet
from spaces.grants.admissions import admission_put, read_admissions
from spaces.keyspace import NETWORKS_PREFIX, SPACES_PREFIX
from spaces.store.contract import Commit, Refused
from spaces.store.lmdb.engine import open_lmdb

PERMIT = Hosting(mode="permit")
ENTROPY = CountingEntropy()


async def change(stage: HeldStage, did: str, *, admits: bool) -> bool:
    """Admit or remove an owner."""
    store, owner = stage.services.store, parse_principal(did)
    return await change_admission(
        store, owner, admits=admits, now=stage.clock.now(), entropy=ENTROPY
    )


async def admitted_pair(stage: HeldStage) -> tuple[Delegate, WalletSigner]:
    """A key and a wallet whom the operator admitted."""
    who, wallet = Delegate(), new_wallet()
    for did in (who.did, wallet.did):
        assert await change(stage, did, admits=True)
    return who, wallet


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way is not creation_by_a_key], ids=lambda way: way.__name__
)
async def test_an_admitted_owner(tmp_path: Path, platform: SimulatedPlatform, way: Way) -> None:
    """An admitted owner can host spaces in every way that mode `auto` allows; a stranger cannot
    (ST14)."""
    async with hosting_stage(tmp_path, platform, PERMIT) as stage:
        who, wallet = await admitted_pair(stage)
        assert (await way(stage, who, wallet)).status == 200
        assert await hosted_in_all(stage) == 1
        assert await has_network(stage, wallet) == (way is sign_in_of_a_wallet)
        await way(stage, Delegate(), new_wallet())
        assert await hosted_in_all(stage) == 1


async def test_an_admitted_owner_makes_spaces(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """An admitted owner makes a further space by the space service, until it is removed."""
    async with hosting_stage(tmp_path, platform, PERMIT) as stage:
        who, wallet = await admitted_pair(stage)
        await put_of_a_key(stage, who, wallet)
        assert (await creation_by_a_key(stage, who, wallet)).status == 200
        assert await change(stage, who.did, admits=False)
        make = {f"{own_space(who.did)}/space/more": [CREATE]}
        assert (await stage.invoke(who.signer, make)).status == 403


async def test_bounds_of_an_admitted_owner(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """An admitted owner can have 32 spaces, 16 of them in one grant (ST15)."""
    async with hosting_stage(tmp_path, platform, PERMIT) as stage:
        who, _ = await admitted_pair(stage)
        activated = []
        for at in range(3):
            names = {f"{own_space(who.did, f's{at}-{n}')}/space": [HOST] for n in range(20)}
            reply = await stage.post("/delegate", who.grant(PEER, names))
            activated.append(len(reported(reply, "activated")))
        assert activated == [16, 16, 0]


async def test_what_a_removal_leaves(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """A removed owner gets nothing new, but its hosted spaces stay usable (ST14)."""
    async with hosting_stage(tmp_path, platform, PERMIT) as stage:
        who, wallet = await admitted_pair(stage)
        friend = Delegate()
        await put_of_a_key(stage, who, wallet)
        friend.proofs = [
            await stage.register(who.grant(friend.did, {f"{own_space(who.did)}/kv": [GET, PUT]}))
        ]
        assert await change(stage, who.did, admits=False)
        for one in (who, friend):
            value = {f"{own_space(who.did)}/kv/x": [PUT]}
            assert (
                await stage.invoke(one.signer, value, proofs=one.proofs, body=b"more")
            ).status == 200
            reply = await stage.invoke(
                one.signer, {f"{own_space(who.did)}/kv/x": [GET]}, proofs=one.proofs
            )
            assert reply.said == (200, "more")
        new = {f"{own_space(who.did, 'new')}/kv/x": [PUT]}
        assert (await stage.invoke(who.signer, new, body=b"x")).status >= 400
        again = who.grant(friend.did, {f"{own_space(who.did, 'new')}/space": [HOST]})
        reply = await stage.post("/delegate", again)
        assert (reply.status, reply.value["activated"]) == (200, [])
        assert await hosted_in_all(stage) == 1
        assert not await change(stage, who.did, admits=False)
        assert await change(stage, who.did, admits=True)
        assert (await stage.invoke(who.signer, new, body=b"x")).status == 200


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_removed_between_read_and_commit(
    tmp_path: Path, platform: SimulatedPlatform, way: Way
) -> None:
    """An owner removed between decision and commit gets no space (ST14)."""
    async with hosting_stage(tmp_path, platform, PERMIT) as stage:
        who, wallet = await admitted_pair(stage)
        before = 0
        if way is creation_by_a_key:  # asks through a space that is there
            await put_of_a_key(stage, who, wallet)
            before = 1
        waiting = stage.store.hold(puts_row(SPACES_PREFIX))

        async def remove() -> None:
            for did in (who.did, wallet.did):
                assert await change(stage, did, admits=False)

        await meanwhile(way(stage, who, wallet), waiting, remove)
        assert [type(outcome) for outcome in waiting.outcomes] == [Refused]
        assert await hosted_in_all(stage) == before


@pytest.mark.parametrize("is_repeat", [False, True], ids=["first", "repeat"])
async def test_network_of_an_owner_removed_under_way(
    tmp_path: Path, platform: SimulatedPlatform, is_repeat: bool
) -> None:
    """A sign-in of an owner removed before the commit creates no network."""
    async with hosting_stage(tmp_path, platform, PERMIT) as stage:
        wallet, session = new_wallet(), Delegate()
        sign_in = wallet_token(wallet, session.did, {default_network(wallet): [CREATE_NETWORK]})
        if is_repeat:
            assert (await stage.post("/delegate", sign_in)).status == 200
        await change(stage, wallet.did, admits=True)
        waiting = stage.store.hold(puts_row(NETWORKS_PREFIX))
        reply = await meanwhile(
            stage.post("/delegate", sign_in),
            waiting,
            lambda: change(stage, wallet.did, admits=False),
        )
        assert (reply.status, [type(outcome) for outcome in waiting.outcomes]) == (200, [Refused])
        assert not await has_network(stage, wallet)


# --- processes: workers, the operator's command ---------------------------------------------------


@pytest.fixture
def closed_node(
    folder: Path, platform: SimulatedPlatform, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningNode]:
    """A node in mode `permit` with two workers, whose store the operator's command finds."""
    if is_on_postgresql():
        monkeypatch.setenv("SEALSPACE_STORE__URL", database_of(folder))
    with running_node(folder, "--hosting", "permit", platform=platform) as node:
        yield node


def test_who_is_removed_and_still_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An owner in the settings' list stays admitted, and the commands say so (ST13)."""
    data, listed = str(tmp_path / "data"), Delegate().did
    if is_on_postgresql():
        monkeypatch.setenv("SEALSPACE_STORE__URL", database_of(data))
    else:
        asyncio.run(open_lmdb(tmp_path / "data").close())
    monkeypatch.setenv("SEALSPACE_HOSTING__LISTED", listed)
    for command, said in (
        ("remove", f"{listed}: hosting.listed still admits this owner"),
        ("list", f"listed: {listed}"),
    ):
        assert (
            main(
                [
                    "admin",
                    "owners",
                    command,
                    "--data",
                    data,
                    *([listed] if command == "remove" else []),
                ]
            )
            == 0
        )
        assert said in capsys.readouterr().err


async def owners(node: RunningNode, *arguments: str) -> int:
    """Run the operator's command in this process beside the node."""
    return await asyncio.to_thread(
        main, ["admin", "owners", arguments[0], "--data", data_of(node), *arguments[1:]]
    )


@pytest.mark.slow
async def test_the_operator_admits_and_removes_at_once(
    closed_node: RunningNode, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each worker applies the operator's commands at once, on either engine (ST14)."""
    wallet, who = new_wallet(), new_key()

    async def hosts(name: str) -> list[bool]:
        """Request a space of the wallet's from each worker."""
        activated = []
        for worker in (0, 1):
            space = own_space(wallet.did, f"{name}{worker}")
            token = wallet_token(wallet, who.did, {f"{space}/space": [HOST]})
            with closed_node.only(worker):
                reply = await send(closed_node.url, "POST", "/delegate", token=token)
            assert reply.status == 200
            activated.append(reply.value["activated"] == [space])
        return activated

    assert await hosts("before") == [False, False]
    assert await owners(closed_node, "add", wallet.did.lower(), new_key().did) == 0
    assert await hosts("admitted") == [True, True]
    capsys.readouterr()
    assert await owners(closed_node, "list") == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert len(listed) == 2
    assert wallet.did in listed
    assert await owners(closed_node, "remove", wallet.did) == 0
    assert await hosts("removed") == [False, False]
    capsys.readouterr()
    assert await owners(closed_node, "add", new_key().did, "alice") == 2
    assert await owners(closed_node, "list") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


async def test_admissions_are_audited(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """Each change of an admission is audited once; a repetition is not."""
    async with hosting_stage(tmp_path, platform, PERMIT) as stage:
        did = new_key().did
        changes = []
        for admits in (True, True, False, False):
            stage.clock.advance(1)  # records are in the order of time
            changes.append(await change(stage, did, admits=admits))
        assert changes == [True, False, True, False]
        records = await audit_records(stage.services.store)
        reported = [
            (record.action, record.actor, record.subject)
            for record in records
            if record.action.startswith("owner.")
        ]
        assert reported == [("owner.admitted", "operator", did), ("owner.removed", "operator", did)]


async def test_a_list_of_many_owners(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """A list longer than a page names each owner once."""
    async with hosting_stage(tmp_path, platform, PERMIT) as stage:
        store = stage.services.store
        dids = {Principal(f"did:example:{number}") for number in range(1100)}
        for start in range(0, 1100, 220):
            some = sorted(dids)[start : start + 220]
            await store.commit(Commit(puts=tuple([admission_put(did, now=0.0) for did in some])))
        listed = [one.owner async for one in read_admissions(store)]
        assert len(dids) == len(listed)
        assert set(listed) == dids


async def test_a_store_that_nobody_serves(
    tmp_path: Path, platform: SimulatedPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator can admit owners while no node runs, but not in a missing store."""
    data = str(tmp_path / "data")
    who, wallet = Delegate(), new_wallet()
    if is_on_postgresql():
        monkeypatch.setenv("SEALSPACE_STORE__URL", database_of(data))
    else:
        assert (
            await asyncio.to_thread(main, ["admin", "owners", "add", "--data", data, who.did]) == 5
        )
    async with hosting_stage(tmp_path, platform, PERMIT) as stage:
        assert (await put_of_a_key(stage, who, wallet)).status >= 400
    assert await asyncio.to_thread(main, ["admin", "owners", "add", "--data", data, who.did]) == 0
    async with hosting_stage(tmp_path, platform, PERMIT) as stage:
        assert (await put_of_a_key(stage, who, wallet)).status == 200
