"""Tests of a backend with a folder of grants, across restarts."""

import asyncio
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from backend_site import Domain, serving
from relay import relay_before
from tests_support import FixedClock

from capabilities.tokens import Capability
from encryption_network.policy import Policy
from sealspace.apps.backends import deliver
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import (
    DecryptDenied,
    DelegationRevoked,
    GrantNotTaken,
    InvalidPortableDelegation,
    NodeRefused,
    NotGranted,
    ReleaseRefused,
)
from sealspace.session import key_session, read_grant
from sealspace.wire.portable import PortableDelegation, portable_of
from tee_backend.backend import Backend
from tee_backend.backend.grant_folder import GrantFolder
from tee_backend.backend.publishing import BackendSurface
from tee_backend.backend_errors import FolderUnusable
from tee_backend.evidence.simulated import measurements_of

APPROVED = measurements_of("approved")
GET, DECRYPT = "tinycloud.kv/get", "tinycloud.encryption/decrypt"
SEED = bytes(range(32))


@dataclass
class Machine:
    """The machine of a backend, with a folder that outlives its processes."""

    bench: Any  # the fixture's
    path: Path
    source: Domain

    async def start(self, path: Path | None = None, clock: FixedClock | None = None) -> Backend:
        """Start a new process of the backend's program."""
        client = await self.bench.client(key_session(SEED))
        folder = GrantFolder(path or self.path, client.session.did)
        clock = clock or self.bench.clock
        return Backend(client, self.source, folder=folder, clock=clock, entropy=self.bench.entropy)


@pytest.fixture
def machine(bench, tmp_path: Path) -> Machine:
    return Machine(bench, tmp_path / "kept", Domain(bench.platform, APPROVED))


@pytest.fixture
async def owner(bench) -> Client:
    """An owner with a secret."""
    client, _ = await bench.owner()
    await client.secrets().put("API_KEY", "value")
    return client


def for_kv(owner: Client) -> Capability:
    return allow(owner.secrets().resource("API_KEY"), GET)


def for_keys(owner: Client) -> Capability:
    return allow(owner.encryption.network().text, DECRYPT)


async def granted(
    owner: Client,
    backend: Backend,
    wanted: Sequence[Capability] | None = None,
    *,
    did: str | None = None,
) -> PortableDelegation:
    policy = Policy(measurements=(APPROVED,))
    return await owner.delegations.delegate(
        did or backend.did, wanted or [for_kv(owner), for_keys(owner)], policy=policy
    )


async def read(backend: Backend, owner: Client) -> str | bytes:
    return await backend.read_secret(owner.session.owner, "API_KEY")


def states(backend: Backend) -> list[str]:
    return [one.state for one in backend.grants]


def on_disk(machine: Machine) -> int:
    return len(list((machine.path / "grants").glob("*.json")))


# --- restarts -------------------------------------------------------------------------------------


async def test_a_restart_needs_no_owner(machine: Machine, owner: Client) -> None:
    """A restarted backend has the same DID and a new receiver key, and attests once for all
    reads."""
    before = await machine.start()
    await before.accept(await granted(owner, before))
    assert "value" == await read(before, owner)
    await before.close()
    machine.source.quotes = 0

    after = await machine.start()
    assert before.did == after.did
    at_first = after.attestation
    assert at_first is None
    assert states(after) == ["live"]
    assert (owner.session.owner,) == after.owners
    assert ["value"] * 5 == await asyncio.gather(*(read(after, owner) for _ in range(5)))
    assert 1 == machine.source.quotes
    assert before.attestation.receiver.private_key != after.attestation.receiver.private_key


async def test_no_key_is_on_disk(machine: Machine, owner: Client) -> None:
    """The folder contains tokens and public keys, but no key of the backend, no receiver key and no
    value (AT58)."""
    backend = await machine.start()
    await backend.accept(await granted(owner, backend))
    assert "value" == await read(backend, owner)
    files = [one for one in machine.path.rglob("*") if one.is_file()]
    assert {"backend.json", "lock"} < {one.name for one in files}
    written = b"".join(one.read_bytes() for one in files)
    receiver = backend.attestation.receiver.private_key
    for secret in (SEED, receiver, b"value"):
        assert secret not in written and secret.hex().encode() not in written


async def test_network_keys_are_kept(machine: Machine, owner: Client, bench) -> None:
    """A network key that this backend has seen is still known after a restart (EN30)."""
    backend = await machine.start()
    await backend.accept(await granted(owner, backend))
    await read(backend, owner)
    await backend.close()
    folder = GrantFolder(machine.path, backend.did)
    folder.close()
    assert [owner.encryption.network().text] == [pin.network for pin in folder.pins]
    assert [one.cid for one in folder.stored.grants] == [*folder.stored.read]


async def test_a_revoked_grant_stays_listed(machine: Machine, owner: Client) -> None:
    """A read under a revoked grant raises `DelegationRevoked` each time and after a restart, and
    the grant is listed as revoked."""
    backend = await machine.start()
    portable = await granted(owner, backend)
    await backend.accept(portable)
    await owner.delegations.revoke(portable)
    for _ in range(2):
        with pytest.raises(DelegationRevoked) as refused:
            await read(backend, owner)
        assert refused.value.hint
        assert [(portable.cid, "revoked")] == [(one.grant.cid, one.state) for one in backend.grants]
    await backend.close()

    backend = await machine.start()
    assert ["revoked"] == states(backend)
    with pytest.raises(DelegationRevoked):
        await read(backend, owner)
    await backend.accept(await granted(owner, backend))
    assert "value" == await read(backend, owner) and ["live", "revoked"] == states(backend)
    await backend.close()
    assert ["live", "revoked"] == states(await machine.start())


async def test_ended_grants_are_listed_until_the_next_one_comes(
    machine: Machine, owner: Client, bench
) -> None:
    """An expired grant opens nothing, and is removed when another one is accepted."""
    backend = await machine.start()
    await backend.accept(await granted(owner, backend))
    bench.clock.advance(8 * 86_400)
    assert states(backend) == ["ended"]
    assert backend.owners == ()
    await backend.close()
    assert ["ended"] == states(await machine.start())


async def test_a_copied_folder(machine: Machine, owner: Client, tmp_path: Path) -> None:
    """Two programs with one key read at the same time, each with its own evidence."""
    first = await machine.start()
    await first.accept(await granted(owner, first))
    shutil.copytree(machine.path, tmp_path / "copy")
    second = await machine.start(tmp_path / "copy")
    for _ in range(2):
        for one in (first, second):
            assert "value" == await read(one, owner)
    assert 2 == machine.source.quotes


# --- evidence -------------------------------------------------------------------------------------


async def test_evidence_that_ended_at_the_node(machine: Machine, owner: Client, bench) -> None:
    """A backend whose evidence has expired at the node attests again and reads."""
    behind = FixedClock(bench.clock.now())
    backend = await machine.start(clock=behind)
    await backend.accept(await granted(owner, backend))
    first = backend.attestation
    assert "value" == await read(backend, owner) and 1 == machine.source.quotes
    bench.clock.advance(first.expires_at - bench.clock.now() + 1)
    assert ["value"] * 3 == await asyncio.gather(*(read(backend, owner) for _ in range(3)))
    assert 2 == machine.source.quotes


async def test_evidence_that_was_replaced_on_the_way(
    machine: Machine, owner: Client, bench
) -> None:
    """A read whose evidence ended on the way, after another read attested, is repeated with the new
    evidence."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    behind = FixedClock(bench.clock.now())

    async def hold(request: web.Request) -> None:
        if request.path.endswith("/decrypt") and not reached.is_set():
            reached.set()
            await go_on.wait()

    async with relay_before(bench.node.url) as relay:
        client = Client(
            relay.url, session=key_session(SEED), clock=bench.clock, entropy=bench.entropy
        )
        async with Backend(client, machine.source, clock=behind, entropy=bench.entropy) as backend:
            await backend.accept(await granted(owner, backend))
            relay.hold = hold
            reading = asyncio.create_task(read(backend, owner))
            await reached.wait()
            bench.clock.advance(backend.attestation.expires_at - bench.clock.now() + 1)
            await backend.attest(owner.encryption.network())
            go_on.set()
            assert "value" == await reading and 2 == machine.source.quotes


async def test_an_owner_s_limit_of_age(machine: Machine, owner: Client, bench) -> None:
    """If an owner requires younger evidence than the node, the backend attests again, once for a
    read."""
    backend = await machine.start()
    policy = Policy(measurements=(APPROVED,), max_age_s=30)
    wanted = [for_kv(owner), for_keys(owner)]
    await backend.accept(await owner.delegations.delegate(backend.did, wanted, policy=policy))
    bench.clock.advance(31)
    assert "value" == await read(backend, owner) and 2 == machine.source.quotes
    assert "value" == await read(backend, owner) and 2 == machine.source.quotes


async def test_evidence_that_will_never_do(machine: Machine, owner: Client) -> None:
    """A read by unapproved code is refused at once, without a new quote."""
    machine.source.image = measurements_of("other")
    backend = await machine.start()
    await backend.accept(await granted(owner, backend))
    with pytest.raises(DecryptDenied) as denial:
        await read(backend, owner)
    assert isinstance(denial.value.refusal, ReleaseRefused)
    assert denial.value.refusal.reason == "measurement"
    assert machine.source.quotes == 1


async def test_no_quote_is_made_for_what_was_not_granted(machine: Machine, owner: Client) -> None:
    """A read for an owner without a grant makes no quote."""
    backend = await machine.start()
    with pytest.raises(NotGranted):
        await read(backend, owner)
    assert 0 == machine.source.quotes


# --- several grants -------------------------------------------------------------------------------


async def test_grants_that_belong_together(machine: Machine, owner: Client) -> None:
    """A grant of the space and a grant of the network open a secret only together."""
    backend = await machine.start()
    parts = [await granted(owner, backend, [one]) for one in (for_kv(owner), for_keys(owner))]
    with pytest.raises(NotGranted):
        await backend.accept(parts[0])
    assert states(backend) == []
    assert on_disk(machine) == 0
    await backend.accept(*parts)
    assert "value" == await read(backend, owner)
    await backend.close()
    backend = await machine.start()
    assert "value" == await read(backend, owner) and ["live", "live"] == states(backend)
    await owner.delegations.revoke(parts[1])
    with pytest.raises(DelegationRevoked):
        await read(backend, owner)
    assert {parts[0].cid: "live", parts[1].cid: "revoked"} == {
        one.grant.cid: one.state for one in backend.grants
    }


async def test_grants_that_are_handed_in_together(machine: Machine, owner: Client) -> None:
    """Grants for several spaces are delivered in one request."""
    backend = await machine.start()
    manifest = {
        "app_id": "com.example",
        "name": "Notes",
        "defaults": False,
        "secrets": {"API_KEY": True},
    }
    surface = BackendSurface(
        machine.source, did=backend.did, manifest=manifest, on_grant=backend.accept
    )
    parts = [await granted(owner, backend, [one]) for one in (for_kv(owner), for_keys(owner))]
    async with serving(surface) as url:
        with pytest.raises(GrantNotTaken, match="did not accept"):
            await deliver(url, parts[0])
        assert [] == states(backend)
        await deliver(url, *parts)
    assert "value" == await read(backend, owner)


async def test_nothing_to_take_up(machine: Machine) -> None:
    """Accepting an empty list of grants is an error."""
    with pytest.raises(InvalidPortableDelegation) as refused:
        await (await machine.start()).accept()
    assert refused.value.hint


async def test_all_or_none(machine: Machine, owner: Client, bench) -> None:
    """If one of several grants is for another DID or refused by the node, none is accepted or
    stored."""
    backend = await machine.start()
    good, foreign = (
        await granted(owner, backend),
        await granted(owner, backend, did=key_session(bytes(32)).did),
    )
    with pytest.raises(InvalidPortableDelegation):
        await backend.accept(good, foreign)
    forged = await granted(owner, backend, [for_keys(owner)])
    forged = _with_another_signature(forged)
    with pytest.raises((NodeRefused, InvalidPortableDelegation)):
        await backend.accept(good, forged)
    assert states(backend) == []
    assert on_disk(machine) == 0
    await backend.accept(good)
    with pytest.raises((NodeRefused, InvalidPortableDelegation)):
        await backend.accept(good, forged)
    assert states(backend) == ["live"]  # the grant that was accepted before stays
    assert on_disk(machine) == 1


def _with_another_signature(portable: PortableDelegation) -> PortableDelegation:
    head, _, signature = portable.header.rpartition(".")
    other = "A" if signature[5] != "A" else "B"
    grant = read_grant(f"{head}.{signature[:5]}{other}{signature[6:]}")
    return portable_of(grant, owner=portable.owner, host=portable.host)


# --- disks ----------------------------------------------------------------------------------------


@pytest.fixture
def full(machine: Machine) -> Callable[[], object]:
    """Make the folder unwritable."""
    return lambda: (machine.path / "grants").rename(machine.path / "away")


async def test_a_grant_that_cannot_be_kept_is_not_taken_up(
    machine: Machine, owner: Client, full
) -> None:
    """A grant that cannot be stored is not accepted."""
    backend = await machine.start()
    full()
    with pytest.raises(FolderUnusable) as refused:
        await backend.accept(await granted(owner, backend))
    assert refused.value.hint and [] == states(backend) and backend.attestation is None


async def test_what_was_held_stays_where_the_disk_is_full(
    machine: Machine, owner: Client, full, bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant that cannot be stored replaces no stored one, in this process and in the next one."""
    backend = await machine.start()
    monkeypatch.setattr(backend._held, "_most_of_an_owner", 3)
    for _ in range(3):
        await backend.accept(await granted(owner, backend))
    before = {one.grant.cid for one in backend.grants}
    full()
    with pytest.raises(FolderUnusable):
        await backend.accept(await granted(owner, backend))
    assert before == {one.grant.cid for one in backend.grants} and 3 == len(before)
    assert "value" == await read(backend, owner)


async def test_a_read_does_not_need_the_disk(machine: Machine, owner: Client, full, caplog) -> None:
    """With a full disk, a read succeeds, and the log warns that its result was not stored."""
    backend = await machine.start()
    await backend.accept(await granted(owner, backend))
    full()
    with caplog.at_level(logging.WARNING):
        assert "value" == await read(backend, owner)
    assert any("cannot store" in one and "value" not in one for one in caplog.messages)


async def test_a_backend_without_a_folder(bench, machine: Machine, owner: Client) -> None:
    """A backend without a folder writes nothing, and fetches its grants from the node after a
    restart."""
    backend = Backend(
        await bench.client(key_session(SEED)),
        machine.source,
        clock=bench.clock,
        entropy=bench.entropy,
    )
    await backend.accept(await granted(owner, backend))
    assert "value" == await read(backend, owner)
    assert not machine.path.exists()
    async with Backend(
        await bench.client(key_session(SEED)), machine.source, clock=bench.clock
    ) as again:
        assert () == again.grants
        assert "value" == await read(again, owner)
