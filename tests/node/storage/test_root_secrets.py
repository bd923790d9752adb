"""Tests of starts with former and other root secrets, and of bad input to the replacement."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from engines import needs_folder
from msgspec.structs import replace
from postgres_server import needs_postgres, postgres_server
from root_rotation_world import NETWORKS, World, filled_store, networks_of
from simulators.agent import AgentSimulator, agent_on
from tests_support import CountingEntropy

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from encryption_network.keyring import Keyring
from encryption_network.networks import encode_network, is_sealed_by
from node.config.tree import Config, Http, Platform, Secret
from node.config.tree import Store as StoreSettings
from node.platform.new_secret import NewSecret, load_new_secret, numbered_path
from node.storage.root_rotation import Replacement
from node.storage.root_secrets import opened_keyring
from node.storage.stores import open_store
from sealspace.cli.exit_status import EXIT_STATUS
from sealspace.cli.root import main
from sealspace.service.command_errors import (
    ConfigurationError,
    SecretUnusable,
    StoreMisused,
)
from spaces.documents.network_rows import network_put
from spaces.lease import Lease
from spaces.root_secret_row import (
    MAX_FORMER,
    NextSecret,
    RootSecretRow,
    read_root_secret,
    root_secret_put,
)
from spaces.space_errors import RotationUnfinished, SecretReplaced, StoreBusy, WrongSecret
from spaces.store.contract import ANY, Commit, Committed, Refused, Store, commit_puts
from tee_backend.evidence.simulated import measurements_of, mint_event_log

pytestmark = needs_folder()

Run = Callable[..., tuple[int, str]]
NEW = Keyring(b"\x21" * 32)
OTHER = Keyring(b"\x22" * 32)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `admin root` in this process; return its status and what it said."""

    def command(*arguments: object) -> tuple[int, str]:
        status = main(["admin", "root", *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out + said.err

    return command


def replacement(store: Store, offered: Keyring, new: Keyring, **more: bool) -> Replacement:
    return Replacement(
        store=store,
        offered=offered,
        new=new,
        new_identity=more.get("new_identity", False),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        progress=lambda _: None,
    )


async def begin_only(store: Store, world: World) -> None:
    """Name a successor, as an interrupted command did."""
    stored = await read_root_secret(store)
    assert stored is not None
    successor = NextSecret(
        check_value=NEW.check_value,
        begun_at=1e9,
        node_did=world.former.node_did,
        kept_keys=NEW.seal_kept_keys(world.former, CountingEntropy(), keeps_identity=True),
    )
    assert await commit_puts(store, root_secret_put(stored.row.replacing(successor), former=stored))


# --- starts ---------------------------------------------------------------------------------------


async def test_RK2_each_secret_is_named(tmp_path: Path) -> None:
    """Former, foreign and new secrets each have their own error; the present one opens."""
    world = await filled_store(tmp_path)
    store = open_store(world.config)
    try:
        assert (await opened_keyring(store, world.former)).node_did == world.former.node_did
        with pytest.raises(WrongSecret):
            await opened_keyring(store, NEW)
        await begin_only(store, world)
        for one in (world.former, NEW):
            with pytest.raises(RotationUnfinished, match="number 1 of the store is being replaced"):
                await opened_keyring(store, one)
        with pytest.raises(WrongSecret):
            await opened_keyring(store, OTHER)
        await replacement(store, world.former, NEW).run()
        with pytest.raises(SecretReplaced, match=r"number 1 .* replaced on .* needs .* number 2"):
            await opened_keyring(store, world.former)
        with pytest.raises(WrongSecret):
            await opened_keyring(store, OTHER)
        assert (await opened_keyring(store, NEW)).node_did == world.former.node_did
    finally:
        await store.close()


async def test_RK2_a_start_says_what_to_do(tmp_path: Path) -> None:
    """A node does not start with a former secret, or while its secret is being replaced."""
    world = await filled_store(tmp_path)
    config = replace(world.config, http=Http(port=0))
    store = open_store(config)
    await begin_only(store, world)
    await store.close()
    await refuses_start(config, "rotation-unfinished", "admin root rotate again")
    store = open_store(config)
    await replacement(store, world.former, NEW).run()
    await store.close()
    await refuses_start(config, "secret-replaced", "use the present root secret")


async def refuses_start(config: Config, code: str, hint: str) -> None:
    with pytest.raises(StoreMisused) as refused:
        async with embedded_node(config):
            pass
    assert refused.value.code == code
    assert EXIT_STATUS[code] == 4
    assert hint in refused.value.hint


async def test_RK1_an_older_store_records_its_secret(tmp_path: Path) -> None:
    """A store of an earlier version gets the row at its next start, and can be rotated at once."""
    config = Config(http=Http(port=0), store=StoreSettings(data=str(tmp_path)))
    async with embedded_node(config) as node:
        stored = await read_root_secret(node.services.store)
        assert stored is not None
        row = stored.row
        assert (row.number, row.former, row.next) == (1, (), None)
        check = node.services.root_secret_check
        assert check is not None and check.stamp == stored.record.stamp
    secret = (tmp_path / "secret").read_bytes()
    assert secret not in (row.check_value, stored.record.value)
    store = open_store(config)
    try:
        await commit_puts(store, replace(root_secret_put(row, former=stored), value=None))
        assert (await replacement(store, Keyring(secret), NEW).run()).number == 2
    finally:
        await store.close()


# --- two commands ---------------------------------------------------------------------------------


async def test_RK7_one_of_two_wins(tmp_path: Path) -> None:
    """Of two replacements by different secrets at once, one wins, and the other changes nothing."""
    world = await filled_store(tmp_path)
    store = open_store(world.config)
    try:
        both = [replacement(store, world.former, one).run() for one in (NEW, OTHER)]
        ended = await asyncio.gather(*both, return_exceptions=True)
        lost = [one for one in ended if isinstance(one, Exception)]
        assert len(lost) == 1
        assert isinstance(lost[0], StoreBusy | SecretUnusable | SecretReplaced)
        stored = await read_root_secret(store)
        assert stored is not None and stored.row.number == 2 and stored.row.next is None
        winner = NEW if stored.row.check_value == NEW.check_value else OTHER
        await opened_keyring(store, winner)
    finally:
        await store.close()


class LateStore:
    """A store on which something else happens before a commit with this number."""

    def __init__(self, store: Store, number: int, first: Callable[[], Awaitable[object]]) -> None:
        self._store = store
        self._left = number
        self._first = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, commit: Commit) -> Committed | Refused:
        self._left -= 1
        if self._left == 0:
            await self._first()
        return await self._store.commit(commit)


async def test_RK7_one_that_reads_before_another_wins(tmp_path: Path) -> None:
    """A command that read the row before another one replaced the secret changes nothing."""
    world = await filled_store(tmp_path)
    store = open_store(world.config)
    try:
        late: Any = LateStore(store, 1, replacement(store, world.former, NEW).run)
        with pytest.raises(StoreBusy, match="another process is replacing"):
            await replacement(late, world.former, OTHER).run()
        assert all(is_sealed_by(one, NEW) for one in await networks_of(store))
        await opened_keyring(store, NEW)
    finally:
        await store.close()


async def test_RK7_one_that_is_overtaken(tmp_path: Path) -> None:
    """A command that is overtaken by the same command ends, and the secret is replaced once."""
    world = await filled_store(tmp_path)
    store = open_store(world.config)
    try:
        late: Any = LateStore(store, 2, replacement(store, world.former, NEW).run)
        with pytest.raises(StoreBusy, match="has finished"):
            await replacement(late, world.former, NEW).run()
        stored = await read_root_secret(store)
        assert stored is not None and (stored.row.number, stored.row.next) == (2, None)
        assert all(is_sealed_by(one, NEW) for one in await networks_of(store))
    finally:
        await store.close()


async def test_RK7_two_with_one_secret(tmp_path: Path) -> None:
    """Two commands with the same new secret replace it once."""
    world = await filled_store(tmp_path)
    store = open_store(world.config)
    try:
        both = [replacement(store, world.former, NEW).run() for _ in range(2)]
        await asyncio.gather(*both, return_exceptions=True)
        done = await replacement(store, world.former, NEW).run()
        assert done.was_finished and done.number == 2
    finally:
        await store.close()


async def test_RK7_the_secrets_of_the_one_that_began(tmp_path: Path) -> None:
    """A replacement is continued only with its own secrets and options."""
    world = await filled_store(tmp_path)
    store = open_store(world.config)
    try:
        await begin_only(store, world)
        with pytest.raises(SecretUnusable, match="another new secret"):
            await replacement(store, world.former, OTHER).run()
        with pytest.raises(SecretUnusable, match="number 1 is needed"):
            await replacement(store, NEW, NEW).run()
        with pytest.raises(StoreMisused, match="without --new-identity"):
            await replacement(store, world.former, NEW, new_identity=True).run()
        assert (await replacement(store, world.former, NEW).run()).networks == NETWORKS
        with pytest.raises(SecretUnusable, match="the present one"):
            await replacement(store, NEW, NEW).run()
        with pytest.raises(SecretUnusable, match="which was replaced on"):
            await replacement(store, NEW, world.former).run()
    finally:
        await store.close()


@needs_postgres()
async def test_RK4_a_running_node_on_a_database(tmp_path: Path) -> None:
    """While a node has the lease, nothing is replaced; an interrupted command goes on at once."""
    world = await filled_store(tmp_path, postgres_server().new_schema())
    store = open_store(world.config)
    try:
        node = Lease(store, owner=bytes(16), ttl_s=120)
        assert await node.take(now=SystemClock.now())
        with pytest.raises(StoreMisused, match="a node is running"):
            await replacement(store, world.former, NEW).run()
        await node.release()
        interrupted = Lease(store, owner=NEW.check_value[:16], ttl_s=120)
        assert await interrupted.take(now=SystemClock.now())
        assert (await replacement(store, world.former, NEW).run()).networks == NETWORKS
        assert await node.take(now=SystemClock.now())
    finally:
        await store.close()


async def test_RK5_a_damaged_network_does_not_stop_the_others(tmp_path: Path) -> None:
    """A network that no secret opens is named, and the others are sealed again."""
    world = await filled_store(tmp_path)
    store = open_store(world.config)
    try:
        first, *others = await networks_of(store)
        damaged = replace(first, sealed_private_key=others[0].sealed_private_key)
        await commit_puts(store, network_put(first.network_id, encode_network(damaged), expect=ANY))
        done = await replacement(store, world.former, NEW).run()
        assert done.damaged == [first.network]
        assert done.networks == NETWORKS - 1
    finally:
        await store.close()


def test_RK1_former_secrets_are_bounded() -> None:
    """The row remembers the last 64 former secrets."""
    row = RootSecretRow(number=1, check_value=bytes(32), since=0.0)
    for at in range(MAX_FORMER + 3):
        check_value = at.to_bytes(32, "big")
        successor = NextSecret(
            check_value=check_value, begun_at=0.0, node_did="did:key:z6MkNode", kept_keys=b""
        )
        row = row.replacing(successor).replaced(1.0)
    assert len(row.former) == MAX_FORMER
    assert row.number == MAX_FORMER + 4
    assert row.former[-1].number == row.number - 1


# --- the command ----------------------------------------------------------------------------------


def test_RK6_the_command(tmp_path: Path, run: Run) -> None:
    """The new secret takes the place of the file `secret`, and the former one keeps a name."""
    world = asyncio.run(filled_store(tmp_path / "data"))
    data = world.config.data
    former = (data / "secret").read_bytes()
    status, said = run("rotate", *world.options)
    assert status == 0, said
    assert f"networks sealed again: {NETWORKS}" in said
    assert "sign as the node" in said
    new = (data / "secret").read_bytes()
    assert new != former == (data / "secret-former-1").read_bytes()
    assert (data / "secret").stat().st_mode & 0o077 == 0
    status, said = run("show", *world.options)
    assert status == 0
    assert '"number":2' in said.replace(" ", "")
    for secret in (former, new):
        assert secret.hex() not in said
    own = tmp_path / "own"
    status, said = run("rotate", *world.options, "--new-secret-file", own)
    assert status == 0, said
    assert f"set secret.file to {own}" in said
    assert len(own.read_bytes()) == 32
    assert own.stat().st_mode & 0o077 == 0


def test_RK6_bad_files(tmp_path: Path, run: Run) -> None:
    """A file that is short, long, readable by others or the present one is refused."""
    world = asyncio.run(filled_store(tmp_path / "data"))
    data = world.config.data
    file = tmp_path / "new"
    for content, mode, said_there in (
        (b"x" * 31, 0o600, "31 bytes"),
        (b"x" * 4097, 0o600, "4097 bytes"),
        (b"x" * 32, 0o644, "other users can access"),
        ((data / "secret").read_bytes(), 0o600, "the present one"),
    ):
        file.write_bytes(content)
        file.chmod(mode)
        status, said = run("rotate", *world.options, "--new-secret-file", file)
        assert status == EXIT_STATUS["secret-unusable"], said
        assert said_there in said
    status, said = run("rotate", *world.options, "--new-secret-file", tmp_path / "no" / "new")
    assert status == EXIT_STATUS["secret-unusable"], said
    status, said = run("rotate", *world.options, "--new-platform-path", "a")
    assert status == EXIT_STATUS["configuration-invalid"], said
    status, said = run("rotate", "--data", tmp_path / "nothing")
    assert status == EXIT_STATUS["secret-unusable"] or "no store" in said
    status, said = run("rotate", *world.options, "--new-identity")
    assert status != 0 and "cannot ask for confirmation" in said
    assert (data / "secret").exists() and not (data / "secret-former-1").exists()


def test_RK4_a_running_node(tmp_path: Path, run: Run) -> None:
    """While a node has the data folder locked, nothing is replaced."""
    world = asyncio.run(filled_store(tmp_path / "data"))

    async def hold() -> tuple[int, str]:
        store = open_store(world.config)
        try:
            return await asyncio.to_thread(run, "rotate", *world.options)
        finally:
            await store.close()

    status, said = asyncio.run(hold())
    assert status == EXIT_STATUS["store-locked"], said
    assert "stop the node" in said


def load(config: Config, file: Path | None = None, platform_path: str | None = None) -> NewSecret:
    return load_new_secret(
        config, file=file, platform_path=platform_path, number=2, entropy=CountingEntropy()
    )


def test_RK6_a_named_secret_needs_a_file(tmp_path: Path) -> None:
    """If the settings name the present secret, the file of the new one is named too."""
    store = StoreSettings(data=str(tmp_path))
    for named in (Secret(file="a"), Secret(value="A" * 43)):
        with pytest.raises(ConfigurationError, match="no file was named"):
            load(Config(store=store, secret=named))


async def test_RK6_a_secret_of_the_platform(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """The platform derives another secret for a path with a number; a file cannot replace it."""
    agent = AgentSimulator(platform, measurements_of("node"), mint_event_log(bytes(32)))
    socket = tmp_path / "agent.sock"
    config = Config(
        store=StoreSettings(data=str(tmp_path)),
        secret=Secret(platform=True),
        platform=Platform(source="dstack", socket=str(socket)),
    )
    async with agent_on(socket, agent):
        second = await asyncio.to_thread(load, config)
        path = "tinycloud/keys/primary/2"
        named = await asyncio.to_thread(load, config, platform_path=path)
        assert second == named
        assert second.platform_path == path
        with pytest.raises(ConfigurationError, match="comes from the platform"):
            await asyncio.to_thread(load, config, tmp_path / "new")
        with pytest.raises(ConfigurationError, match="already"):
            await asyncio.to_thread(load, config, platform_path="tinycloud/keys/primary")
    assert not (tmp_path / "new").exists()
    assert numbered_path("tinycloud/keys/primary", 2) == "tinycloud/keys/primary/2"
    assert numbered_path("tinycloud/keys/primary/2", 3) == "tinycloud/keys/primary/3"
