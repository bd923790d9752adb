"""Tests of local copies: pages, values, resets, revocations, the right to read, limits."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from patience import PATIENCE_S, until
from relay import Answer, Relay, relay_before
from trust_settings import trusting_config

from capabilities.clock_and_entropy import time_text
from sealspace import sync
from sealspace.apps.replica import Replica, SyncCounts
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import (
    ClientClosed,
    ClientNotReady,
    ClockWentBack,
    InvalidInput,
    MalformedAnswer,
    NodeFailure,
    NotGranted,
    ReplicaExpired,
    ReplicaFull,
    ReplicaIncomplete,
    ReplicaInUse,
    ReplicaRevoked,
    SessionExpired,
    SourceChanged,
    Unauthorized,
)
from sealspace.kv import MAX_VALUE_BYTES
from sealspace.session import key_session
from sealspace.wire.transport import TransportSettings
from spaces.keyspace import space_keys
from spaces.store.contract import Put, commit_puts

SEED = b"\x09" * 32
CANARY = b"a value that nobody else has" * 100
RESET = '{"error":{"code":"RESET_REQUIRED","reason":"cursor-invalid"}}'
SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)


@pytest.fixture
async def owner(bench: Any) -> Client:
    """An owner without a wallet, who has every right, with one value."""
    client: Client = await bench.client(key_session(SEED))
    await client.kv("feed").put("notes/a", b"1")
    return client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a copy."""
    return tmp_path / "copy"


def opened(client: Client, folder: Path, **more: Any) -> Replica:
    """Open the copy of the values below `notes`."""
    return client.replica(folder, "notes", space="feed", **more)


def content(replica: Replica) -> dict[str, bytes]:
    """Return the keys and values of a copy."""
    found = {}
    for key in replica.list():
        value = replica.get(key)
        assert value is not None
        found[key] = value.body
    return found


async def stored(client: Client, prefix: str = "notes") -> dict[str, bytes]:
    """Return the keys and values of the node."""
    kv = client.kv("feed")
    keys = [key async for key in kv.list(prefix)]
    return {key: value.body for key, value in (await kv.get_many(keys)).items()}


def is_complete(replica: Replica) -> bool:
    """Return whether all values were read since the feed began."""
    return replica.state.is_complete


def ending(replica: Replica) -> str:
    """Return whether a copy is live, retained, expired or revoked."""
    state = replica.state
    if state.is_revoked:
        return "revoked"
    if state.is_expired:
        assert not state.is_retained
        return "expired"
    return "retained" if state.is_retained else "live"


def in_files(folder: Path) -> bytes:
    """Return the bytes of all files of a copy."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def device_of(
    bench: Any, owner: Client, *, ttl_s: float = 1000, retain_s: float | None = None
) -> tuple[Client, str, str | None]:
    """Return a device with the rights to follow `notes`, and the cids of its delegations."""
    device: Client = await bench.client(key_session(secrets.token_bytes(32)))
    resource = f"{owner.kv('feed').space.text}/kv/notes"
    rights = allow(resource, "tinycloud.kv/get"), allow(resource, "tinycloud.kv/sync")
    granted = await owner.delegations.delegate(device.session.did, rights, ttl_s=ttl_s)
    await device.delegations.accept(granted)
    kept = None
    if retain_s is not None:
        right = allow(resource, "tinycloud.kv/retain")
        retained = await owner.delegations.delegate(device.session.did, [right], ttl_s=retain_s)
        await device.delegations.accept(retained)
        kept = retained.cid
    return device, granted.cid, kept


def copy_of(device: Client, owner: Client, folder: Path, **more: Any) -> Replica:
    """Open the copy of a device."""
    return device.replica(folder, "notes", space=owner.kv("feed").space.text, **more)


class Line:
    """The line to the node, which changes answers.

    Attributes:
        client: the owner's client on this line.
        page: members that replace those of each page of the feed.
        refuse: status and text of all answers instead of the node's; None: the node's.
        refused: how many answers were replaced by `refuse`.
        refuse_cursors: how many requests with a cursor are answered with a reset.
        before_values: called before a request for values is passed on.
        hide_values: whether values seem to be absent.
        sizes: lengths of the answers to requests for values.
    """

    def __init__(self, relay: Relay, client: Client) -> None:
        self.client = client
        self.page: Mapping[str, Any] = {}
        self.refuse: tuple[int, str] | None = None
        self.refused = 0
        self.refuse_cursors = 0
        self.before_values: Callable[[], Awaitable[object]] | None = None
        self.hide_values = False
        self.sizes: list[int] = []
        self._is_feed = False
        self._has_cursor = False
        relay.hold = self._hold
        relay.twist = self._twist

    async def _hold(self, request: web.Request) -> None:
        self._has_cursor = "x-tinycloud-cursor" in request.headers
        self._is_feed = "x-tinycloud-limit" in request.headers
        if request.path == "/invoke" and not self._is_feed and self.before_values is not None:
            await self.before_values()

    def _twist(self, answer: Answer) -> None:
        if answer.path != "/invoke":
            return
        if self.refuse is not None:
            self.refused += 1
            self._answer(answer, *self.refuse)
        elif not self._is_feed:
            self.sizes.append(len(answer.body))
            if self.hide_values:
                self._answer(answer, 404, "Key not found")
        elif self._has_cursor and self.refuse_cursors:
            self.refuse_cursors -= 1
            self._answer(answer, 410, RESET)
        else:
            answer.change(**self.page)

    @staticmethod
    def _answer(answer: Answer, status: int, text: str) -> None:
        answer.status, answer.body = status, text.encode()
        answer.headers["content-type"] = "text/plain"


@pytest.fixture
async def line(bench: Any, owner: Client) -> AsyncIterator[Line]:
    """A line to the node that changes answers, with a client of the owner."""
    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url,
            session=owner.session,
            settings=SETTINGS,
            clock=bench.clock,
            entropy=bench.entropy,
        ) as client,
    ):
        yield Line(relay, client)


async def test_RP1_a_copy_follows_the_node(owner: Client, folder: Path) -> None:
    """A run copies what is new, changed and deleted, and the copy is the same after it is opened
    again."""
    kv = owner.kv("feed")
    await kv.put("other", b"1")
    await kv.put("notes/b", "text", metadata={"n": "1"})
    async with opened(owner, folder) as replica:
        with pytest.raises(ClientNotReady, match="never synced"):
            replica.get("notes/a")
        assert await replica.sync() == SyncCounts(pages=1, written=2, deleted=0, missing=0)
        assert content(replica) == await stored(owner)
        found = await kv.get("notes/b")
        assert replica.get("notes/b") == found
        assert replica.metadata("notes/b") == replace(found, body=b"")
        await kv.delete("notes/a")
        await kv.put("notes/b", b"2")
        assert await replica.sync() == SyncCounts(pages=1, written=1, deleted=1, missing=0)
        assert await replica.sync() == SyncCounts(pages=1, written=0, deleted=0, missing=0)
    with pytest.raises(ClientClosed):
        replica.get("notes/b")
    async with opened(owner, folder) as replica:
        assert content(replica) == {"notes/b": b"2"}
        assert replica.get("notes/a") is None
        assert replica.metadata("notes/a") is None
        assert (await replica.sync()).written == 0


async def test_RP1_a_folder_has_one_source(
    owner: Client, folder: Path, tmp_path: Path, bench: Any, bench_with: Any
) -> None:
    """The copy of one space, prefix and node is not used for another, and nothing is sent."""
    async with opened(owner, folder) as replica:
        await replica.sync()
    with pytest.raises(SourceChanged, match="notes"):
        owner.replica(folder, "notes/", space="feed")
    with pytest.raises(SourceChanged):
        owner.replica(folder, "notes", space="other")
    config = trusting_config(tmp_path / "b", bench.platform, published_at=bench.clock.now())
    elsewhere = await (await bench_with(config)).client(key_session(SEED))
    await elsewhere.kv("feed").put("notes/b", b"another")
    async with opened(elsewhere, folder) as replica:
        with pytest.raises(SourceChanged, match="is from the node"):
            await replica.sync()
        assert content(replica) == {"notes/a": b"1"}


@pytest.mark.parametrize(
    "members",
    [
        {"changes": [{"key": "other", "deleted": True}]},
        {"changes": [{"key": "notes/b", "deleted": False, "etag": '"1"', "metadata": {}}]},
        {"source": {"nodeDid": "did:key:z", "space": "s", "prefix": "notes"}},
        {"cursor": ""},
        {"cursor": "AA\r\nx-other: 1"},
        {"cursor": "AA\n"},
        {"changes": [{"key": f"notes/{number}", "deleted": True} for number in range(4197)]},
        {"authority": {"notBefore": "soon", "expiresAt": None, "retainUntil": None}},
    ],
)
async def test_RP2_a_page_that_is_not_of_the_feed(
    line: Line, folder: Path, members: dict[str, Any]
) -> None:
    """Nothing of such a page is stored."""
    line.page = members
    async with opened(line.client, folder) as replica:
        with pytest.raises(MalformedAnswer):
            await replica.sync()
        assert (replica.state.keys, replica.state.has_cursor) == (0, False)


@pytest.mark.parametrize("window", [{"notBefore": 60.0}, {"expiresAt": -60.0}, {"expiresAt": 0.0}])
async def test_RP2_a_right_that_is_not_valid_now(
    line: Line, bench: Any, folder: Path, window: dict[str, float]
) -> None:
    """A page whose right to read is not valid at the time of this machine is not stored."""
    authority: dict[str, str | None] = {"notBefore": None, "expiresAt": None, "retainUntil": None}
    for name, after_s in window.items():
        authority[name] = time_text(bench.clock.now() + after_s)
    line.page = {"authority": authority}
    async with opened(line.client, folder) as replica:
        with pytest.raises(ReplicaExpired, match="clock"):
            await replica.sync()
        assert (replica.state.keys, replica.state.has_cursor) == (0, False)


async def test_RP3_a_page_is_stored_whole_or_not_at_all(line: Line, folder: Path) -> None:
    """If a run ends between the values of a page, the copy is as it was after the page before."""
    kv = line.client.kv("feed")
    await kv.put_many({"notes/b": b"1", "notes/c": b"1"})
    async with opened(line.client, folder, limit=1) as replica:
        await replica.sync()
        before = content(replica), replica.state
        await kv.put("notes/a", b"2")

        async def fail() -> None:
            assert content(replica) == before[0]  # of the last commit, while a page is written
            line.refuse = 503, "Service Unavailable"

        line.before_values = fail
        with pytest.raises(NodeFailure):
            await replica.sync()
        assert (content(replica), replica.state) == before
        line.before_values, line.refuse = None, None
        assert (await replica.sync()).written == 1
        assert content(replica)["notes/a"] == b"2"


async def test_RP4_a_value_that_changes_while_it_is_copied(line: Line, folder: Path) -> None:
    """A value that changed or vanished after the page was made is missing, until its next change
    comes."""
    kv = line.client.kv("feed")
    await kv.put("notes/b", b"1")

    async def change() -> None:
        line.before_values = None
        await kv.put("notes/a", b"2")
        await kv.delete("notes/b")

    line.before_values = change
    async with opened(line.client, folder) as replica:
        assert await replica.sync() == SyncCounts(pages=1, written=2, deleted=0, missing=2)
        with pytest.raises(ReplicaIncomplete, match="notes/a"):
            replica.get("notes/a")
        assert list(replica.list()) == ["notes/a", "notes/b"]
        assert await replica.sync() == SyncCounts(pages=1, written=1, deleted=1, missing=0)
        assert content(replica) == {"notes/a": b"2"}


async def test_RP4_missing_values_are_fetched_by_the_next_run(line: Line, folder: Path) -> None:
    """A run first fetches what the one before did not get, without a new change."""
    line.hide_values = True
    async with opened(line.client, folder) as replica:
        assert (await replica.sync()).missing == 1
    line.hide_values = False
    async with opened(line.client, folder) as replica:
        assert await replica.sync() == SyncCounts(pages=1, written=0, deleted=0, missing=0)
        assert content(replica) == {"notes/a": b"1"}


async def test_RP4_the_same_value_is_not_fetched_again(line: Line, folder: Path) -> None:
    """Only the metadata of a value is replaced if its bytes are the same."""
    async with opened(line.client, folder) as replica:
        await replica.sync()
        line.sizes.clear()
        await line.client.kv("feed").put("notes/a", b"1", metadata={"n": "2"})
        line.sizes.clear()
        await replica.sync()
        found = replica.get("notes/a")
        assert found is not None and found.metadata == {"n": "2"}
        assert line.sizes == []


async def test_RP5_a_copy_has_a_limit(line: Line, folder: Path) -> None:
    """A value beyond the limit is not sent, and nothing of its page is stored."""
    kv = line.client.kv("feed")
    await kv.put("notes/big", b"x" * 4000)
    line.sizes.clear()
    async with opened(line.client, folder, max_bytes=2000) as replica:
        with pytest.raises(ReplicaFull, match="notes/big"):
            await replica.sync()
        assert (replica.state.keys, replica.state.has_cursor) == (0, False)
    assert max(line.sizes) < 2000
    async with opened(line.client, folder, max_bytes=100) as replica:
        with pytest.raises(ReplicaFull):
            await replica.sync()
    await kv.delete("notes/big")
    await kv.put_many({"notes/b": b"x" * 900, "notes/c": b"x" * 900})
    async with opened(line.client, folder, max_bytes=2000) as replica:
        with pytest.raises(ReplicaFull, match="2000 bytes"):  # only the two together are too large
            await replica.sync()
        assert (replica.state.keys, replica.state.has_cursor) == (0, False)
    await kv.delete("notes/b")
    await kv.delete("notes/c")
    await kv.put("notes/big", b"x" * 4000)
    async with opened(line.client, folder, max_bytes=10_000) as replica:
        await replica.sync()
        assert 4000 < replica.state.used_bytes < 5000
        await kv.put("notes/big", b"y" * 8000)  # in place of the former value
        assert (await replica.sync()).missing == 0
        await kv.delete("notes/big")
        await replica.sync()
        assert replica.state.used_bytes < 1000
    with pytest.raises(InvalidInput):
        opened(line.client, folder, max_bytes=0)


@pytest.mark.slow
async def test_RP4_a_large_value_is_read_alone(owner: Client, folder: Path) -> None:
    """A value that fits in no answer with others is read by a request of its own."""
    body = b"x" * (MAX_VALUE_BYTES + 1)
    await owner.kv("feed").upload("notes/big", BytesIO(body))
    await owner.kv("feed").put("notes/c", b"1")
    async with opened(owner, folder) as replica:
        assert await replica.sync() == SyncCounts(pages=1, written=3, deleted=0, missing=0)
        assert content(replica) == {"notes/a": b"1", "notes/big": body, "notes/c": b"1"}


async def test_RP6_a_reset(line: Line, folder: Path) -> None:
    """After a reset the former rows are read until all values were copied again. Those that are
    gone are removed then."""
    kv = line.client.kv("feed")
    await kv.put("notes/b", b"1")
    await kv.put("notes/c", b"1")
    async with opened(line.client, folder, limit=1) as replica:
        await replica.sync()
        await kv.delete("notes/b")
        await kv.put("notes/c", b"2")
        await kv.put("notes/d", b"1")

        async def fail() -> None:
            line.refuse = 503, "Service Unavailable"

        line.refuse_cursors, line.before_values = 1, fail
        with pytest.raises(NodeFailure):
            await replica.sync()
        assert content(replica) == {"notes/a": b"1", "notes/b": b"1", "notes/c": b"1"}
        assert not is_complete(replica)
        line.refuse, line.before_values = None, None
    async with opened(line.client, folder, limit=1) as replica:
        assert not is_complete(replica)
        counts = await replica.sync()
        assert (counts.deleted, counts.missing) == (1, 0)
        assert is_complete(replica)
        assert content(replica) == {"notes/a": b"1", "notes/c": b"2", "notes/d": b"1"}


async def test_RP6_a_reset_by_the_node(owner: Client, folder: Path, bench: Any) -> None:
    """A node that does not know the cursor any more gives all values again."""
    async with opened(owner, folder) as replica:
        await owner.kv("feed").put("notes/a", b"2")
        await replica.sync()
        sequence = Put(space_keys(owner.kv("feed").space).sequence, None)
        assert await commit_puts(bench.node.services.store, sequence)
        await owner.kv("feed").put("notes/a", b"3")
        await replica.sync()
        assert content(replica) == {"notes/a": b"3"}


async def test_RP6_a_node_that_resets_again_and_again(line: Line, folder: Path) -> None:
    """A second reset in a run is an error, and the next run begins anew."""
    await line.client.kv("feed").put("notes/b", b"1")
    async with opened(line.client, folder, limit=1) as replica:
        await replica.sync()
        line.refuse_cursors = 2
        with pytest.raises(MalformedAnswer, match="twice"):
            await replica.sync()
        await replica.sync()
        assert is_complete(replica)


async def test_RP7_a_copy_ends_with_the_right_to_read(
    owner: Client, bench: Any, folder: Path
) -> None:
    """A copy is read until the delegation ends, without the node too."""
    device, _, _ = await device_of(bench, owner, ttl_s=1000)
    async with copy_of(device, owner, folder) as replica:
        await replica.sync()
        bench.clock.advance(replica.state.expires_at - bench.clock.now() - 1)
        assert content(replica) == {"notes/a": b"1"}
        assert ending(replica) == "live"
        bench.clock.advance(1)
        for read in (replica.get, replica.metadata):
            with pytest.raises(ReplicaExpired):
                read("notes/a")
        with pytest.raises(ReplicaExpired):
            list(replica.list())
        assert ending(replica) == "expired"


async def test_RP7_a_retained_copy(owner: Client, bench: Any, folder: Path) -> None:
    """With a retention grant that ends later, the copy is read until then, marked as retained."""
    device, _, kept = await device_of(bench, owner, ttl_s=1000, retain_s=5000)
    async with copy_of(device, owner, folder, retention_grant=kept) as replica:
        await replica.sync()
        assert ending(replica) == "live"
        bench.clock.advance(1000)
        assert content(replica) == {"notes/a": b"1"}
        assert ending(replica) == "retained"
        with pytest.raises(SessionExpired):
            await replica.sync()
    async with copy_of(device, owner, folder, retention_grant=kept) as replica:
        assert content(replica) == {"notes/a": b"1"}
        bench.clock.advance(4000)
        with pytest.raises(ReplicaExpired):
            replica.get("notes/a")


async def test_RP8_a_refused_retention_grant_keeps_the_copy(
    owner: Client, bench: Any, folder: Path
) -> None:
    """A retention grant that the node refuses ends the run, and the copy stays."""
    device, granted, _ = await device_of(bench, owner)
    async with copy_of(device, owner, folder) as replica:
        await replica.sync()
    async with copy_of(device, owner, folder, retention_grant=granted) as replica:
        with pytest.raises(Unauthorized, match="retention-grant-not-covering"):
            await replica.sync()
        assert content(replica) == {"notes/a": b"1"}


async def test_RP8_a_revocation_ends_the_copy(owner: Client, bench: Any, folder: Path) -> None:
    """After a revocation the values are deleted, and the copy is blocked, also when it is opened
    again and with a new delegation."""
    await owner.kv("feed").put("notes/a", CANARY)
    device, cid, _ = await device_of(bench, owner)
    async with copy_of(device, owner, folder) as replica:
        await replica.sync()
        assert CANARY in in_files(folder)
        await owner.delegations.revoke(cid)
        with pytest.raises(ReplicaRevoked):
            await replica.sync()
        with pytest.raises(ReplicaRevoked):
            replica.get("notes/a")
        assert CANARY not in in_files(folder)
    again, _, _ = await device_of(bench, owner)
    async with copy_of(again, owner, folder) as replica:
        assert (replica.state.is_revoked, replica.state.keys) == (True, 0)
        for _ in range(2):
            with pytest.raises(ReplicaRevoked):
                await replica.sync()
        with pytest.raises(ReplicaRevoked):
            list(replica.list())


@pytest.mark.parametrize(
    ("text", "is_ended"),
    [
        ("delegation-revoked: bafyone", True),
        ("delegation-ancestor-revoked: ancestor=bafyone invoked=bafytwo", True),
        ("delegation-revoked: bafyone, or so", False),
        ("delegation-revoked: ", False),
        ("Unauthorized Action: x/delegation-revoked: bafyone / tinycloud.kv/sync", False),
        ("Unauthorized", False),
    ],
)
async def test_RP8_which_refusals_end_a_copy(
    line: Line, folder: Path, text: str, is_ended: bool
) -> None:
    """Only a 401 whose whole text is a revocation does; other refusals keep the copy."""
    async with opened(line.client, folder) as replica:
        await replica.sync()
        line.refuse = 403, text
        with pytest.raises(Unauthorized):
            await replica.sync()
        line.refuse = 401, text
        with pytest.raises(ReplicaRevoked if is_ended else Unauthorized):
            await replica.sync()
        assert ending(replica) == ("revoked" if is_ended else "live")
        assert replica.state.keys == int(not is_ended)


@pytest.mark.parametrize("by", ["open", "sync"])
async def test_RP9_an_expired_copy_is_deleted(
    owner: Client, bench: Any, folder: Path, by: str
) -> None:
    """The next run, and the next opening, delete the values; a new delegation begins again."""
    await owner.kv("feed").put("notes/a", CANARY)
    device, _, _ = await device_of(bench, owner, ttl_s=1000)
    replica = copy_of(device, owner, folder)
    await replica.sync()
    bench.clock.advance(2000)
    if by == "open":
        await replica.close()
        replica = copy_of(device, owner, folder)
    else:
        with pytest.raises(SessionExpired):
            await replica.sync()
    assert (replica.state.keys, replica.state.has_cursor) == (0, False)
    with pytest.raises(ReplicaExpired):
        replica.get("notes/a")
    assert CANARY not in in_files(folder)
    await replica.close()
    again, _, _ = await device_of(bench, owner)
    async with copy_of(again, owner, folder) as replica:
        await replica.sync()
        assert content(replica) == {"notes/a": CANARY}


async def test_RP10_a_clock_that_is_set_back(owner: Client, bench: Any, folder: Path) -> None:
    """An expired copy does not open again when the clock is set back, also after a restart."""
    device, _, _ = await device_of(bench, owner, ttl_s=1000)
    began_at = bench.clock.now()
    async with copy_of(device, owner, folder) as replica:
        await replica.sync()
        bench.clock.advance(970)
        assert content(replica) == {"notes/a": b"1"}
        bench.clock.advance(30)
        with pytest.raises(ReplicaExpired):
            replica.get("notes/a")
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        bench.clock.advance(began_at + 10 - bench.clock.now())
        with pytest.raises(ClockWentBack):
            replica.get("notes/a")
        with pytest.raises(ClockWentBack):
            await replica.sync()
        bench.clock.advance(989)  # within the tolerance; the latest time that was seen counts
        with pytest.raises(ReplicaExpired):
            replica.get("notes/a")
    for name, data in files.items():  # as if the process had been killed
        (folder / name).write_bytes(data)
    bench.clock.advance(began_at + 980 - bench.clock.now())
    with pytest.raises(ClockWentBack, match="20 s"):
        copy_of(device, owner, folder)


async def test_RP12_a_copy_is_open_once(owner: Client, folder: Path) -> None:
    """A second object on the folder is refused until the first is closed."""
    async with opened(owner, folder):
        with pytest.raises(ReplicaInUse):
            opened(owner, folder)
    async with opened(owner, folder):
        pass


@pytest.mark.parametrize(
    ("space", "prefix"), [("secrets", "notes"), ("feed", "vault"), ("feed", "vault/secrets/")]
)
async def test_RP13_secrets_need_an_explicit_argument(
    owner: Client, folder: Path, space: str, prefix: str
) -> None:
    """A copy of secrets has only envelopes, and has to be asked for."""
    with pytest.raises(InvalidInput, match="envelopes"):
        owner.replica(folder, prefix, space=space)
    assert not folder.exists()
    await owner.kv(space).put(f"{prefix.rstrip('/')}/x", b"1")
    async with owner.replica(folder, prefix, space=space, allow_envelopes=True) as replica:
        assert (await replica.sync()).written == 1


@pytest.mark.parametrize(("prefix", "limit"), [("", 100), ("notes", 0), ("notes", 1001)])
async def test_CF1_arguments_of_the_feed(
    owner: Client, folder: Path, prefix: str, limit: int
) -> None:
    """An empty prefix and a limit out of range are refused before a folder is made."""
    with pytest.raises(InvalidInput):
        owner.replica(folder, prefix, space="feed", limit=limit)
    assert not folder.exists()


async def test_a_session_without_the_right(bench: Any, folder: Path) -> None:
    """A sign-in does not include the feed."""
    client, _ = await bench.owner()
    async with client.replica(folder, "notes") as replica:
        with pytest.raises(NotGranted, match="kv/sync"):
            await replica.sync()


async def test_CF11_a_copy_that_follows(owner: Client, folder: Path, bench: Any) -> None:
    """A copy that follows waits for the next change."""
    async with opened(owner, folder) as replica:
        runs = replica.follow()
        assert (await anext(runs)).written == 1
        for key in ("notes/b", "notes/c"):
            waiting = asyncio.ensure_future(anext(runs))
            await until(lambda: bench.node.services.waits.taken == 1)
            await owner.kv("feed").put(key, b"1")
            assert (await waiting).written == 1
            assert replica.get(key) is not None


async def test_a_copy_that_follows_through_an_outage(
    owner: Client, folder: Path, line: Line
) -> None:
    """With `retry_s`, a node that fails ends nothing, at the start and later; the copy is read."""
    async with opened(owner, folder) as replica:
        await replica.sync()
    async with line.client.replica(folder, "notes", space="feed") as replica:
        line.refuse = (502, "bad gateway")
        with pytest.raises(NodeFailure):
            await anext(replica.follow())
        runs = replica.follow(retry_s=0.01)
        for key in ("notes/b", "notes/c"):
            line.refuse = (503, "full")
            line.refused = 0
            waiting = asyncio.ensure_future(anext(runs))
            await owner.kv("feed").put(key, b"1")
            await until(lambda: line.refused > 2)
            assert replica.get("notes/a") is not None and replica.get(key) is None
            assert not waiting.done()
            line.refuse = None
            assert (await waiting).written == 1
            assert replica.get(key) is not None
        line.refuse = (401, "somebody says no")
        waiting = asyncio.ensure_future(anext(runs))
        await owner.kv("feed").put("notes/d", b"1")
        with pytest.raises(Unauthorized):
            await waiting
        with pytest.raises(InvalidInput, match="above 0"):
            await anext(replica.follow(retry_s=0))


async def test_the_keys_below_a_prefix(owner: Client, folder: Path) -> None:
    """A prefix of the list stands for whole segments."""
    names = ["notes", "notes/a", "notes/a-b", "notes/a/b", "notes/a/c", "notes/b"]
    await owner.kv("feed").put_many(dict.fromkeys(names, b"1"))
    async with opened(owner, folder) as replica:
        await replica.sync()
        assert list(replica.list()) == names
        assert list(replica.list("notes/a")) == ["notes/a", "notes/a/b", "notes/a/c"]
        assert list(replica.list("notes/a/")) == ["notes/a/b", "notes/a/c"]
        assert list(replica.list("other")) == []


async def test_the_synchronous_client(owner: Client, folder: Path, bench: Any) -> None:
    """The synchronous client has the same copy."""

    def read() -> tuple[int, list[str]]:
        with (
            sync.Client(bench.node.url, session=owner.session, clock=bench.clock) as client,
            client.replica(folder, "notes", space="feed") as replica,
        ):
            return replica.sync().written, list(replica.list())

    assert await asyncio.to_thread(read) == (1, ["notes/a"])
