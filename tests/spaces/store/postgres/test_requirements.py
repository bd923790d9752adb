"""Tests of the requirements on a database with real servers, standbys and a pooling proxy."""

from collections.abc import Iterator

import pytest
from pgbouncer import needs_pgbouncer, pgbouncer
from postgres_server import PostgresServer, needs_postgres, new_server, postgres_server

from spaces.space_errors import StoreUnavailable
from spaces.store.postgres.engine import open_postgres
from spaces.store.postgres.requirements import Finding, disk_findings, examine, standby_findings

pytestmark = needs_postgres()

SOUND = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


def wrong(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.text for finding in findings if finding.severity == "wrong"]


@pytest.fixture(scope="module")
def sound_server() -> Iterator[PostgresServer]:
    """A server with the settings of a fresh installation, which can have a standby."""
    server = new_server(SOUND)
    server.start()
    yield server
    server.kill()


async def test_server_that_does_not_sync() -> None:
    """The check names each server setting that turns off syncing, with a next step."""
    findings = await examine(postgres_server().new_database())
    assert [text.partition(" is off")[0] for text in wrong(findings)] == [
        "fsync",
        "full_page_writes",
    ]
    assert all(finding.next_step for finding in findings if finding.severity != "ok")


async def test_server_that_acknowledges_too_early(sound_server: PostgresServer) -> None:
    """The check finds an asynchronous commit setting of the role or the database."""
    url = sound_server.new_database()
    name = url.partition("@/")[2].partition("?")[0]
    assert wrong(await examine(url)) == []
    sound_server.run("postgres", f"alter database {name} set synchronous_commit = off")
    assert "acknowledged before" in wrong(await examine(url))[0]


async def test_standbys(sound_server: PostgresServer) -> None:
    """The check warns without a standby, and fails for an asynchronous or absent standby."""
    url = sound_server.new_database()
    (alone,) = [finding for finding in await examine(url) if finding.severity != "ok"]
    assert alone.severity == "warn"
    assert alone.text[:22] == "no standby is connecte"
    standby = new_server(standby_of=sound_server)
    standby.start()
    try:
        assert "a failover loses" in (await _settled(url, lambda texts: bool(texts)))[0]
        sound_server.run("postgres", "alter system set synchronous_standby_names = 'standby'")
        sound_server.run("postgres", "select pg_reload_conf()")
        assert await _settled(url, lambda texts: not texts) == []
        assert "commits wait for a standby" in [finding.text for finding in await examine(url)]
        with pytest.raises(StoreUnavailable):
            await examine(standby.url("postgres"))
        standby.kill()
        assert "no standby of" in (await _settled(url, lambda texts: bool(texts)))[0]
    finally:
        # Else every later commit on this server would wait for a standby that is gone.
        sound_server.run("postgres", "alter system reset synchronous_standby_names")
        sound_server.run("postgres", "select pg_reload_conf()")
        standby.kill()


async def _settled(url: str, is_so: object) -> list[str]:
    """Repeat the check until the server has noticed a change."""
    assert callable(is_so)
    for _ in range(2000):
        texts = wrong(await examine(url))
        if is_so(texts):
            return texts
    raise AssertionError(texts)


@pytest.mark.parametrize("commit", ["off", "local", "remote_write"])
def test_standby_that_is_not_waited_for(commit: str) -> None:
    """The check fails for named standbys if a setting below `on` does not wait for them."""
    settings = {"synchronous_standby_names": "a", "synchronous_commit": commit}
    (found,) = standby_findings(settings, ["sync"])
    assert found.severity == "wrong"
    assert commit in found.text


def test_what_may_not_be_seen() -> None:
    """The check gives a message if its role may not see the state of standbys."""
    settings = {"synchronous_standby_names": "a", "synchronous_commit": "on"}
    (found,) = standby_findings(settings, [None])
    assert found.severity == "warn"
    assert standby_findings({}, []) == []
    assert [finding.severity for finding in disk_findings({})] == ["ok"]


@needs_pgbouncer()
@pytest.mark.parametrize("pool_mode", ["transaction", "statement"])
@pytest.mark.parametrize("pool_size", [1, 2, 20])
async def test_proxy_that_pools_by_transaction(pool_mode: str, pool_size: int) -> None:
    """The check finds a proxy that spreads one connection's statements over several sessions."""
    with pgbouncer(
        postgres_server().new_database(), pool_mode=pool_mode, pool_size=pool_size
    ) as url:
        (text,) = wrong(await examine(url))
    assert "a proxy between node and database" in text


@needs_pgbouncer()
async def test_proxy_that_pools_by_session() -> None:
    """The check accepts a proxy that keeps one session per connection, and the store works through
    it."""
    with pgbouncer(postgres_server().new_database(), pool_mode="session") as url:
        assert not any("proxy" in text for text in wrong(await examine(url)))
        store = open_postgres(url)
        try:
            assert (await store.read((b"Ka",))).records == (None,)
        finally:
            await store.close()


async def test_database_that_cannot_be_examined() -> None:
    """The error about an unreachable database does not contain the password of its address."""
    with pytest.raises(StoreUnavailable) as raised:
        await examine("postgresql://user:hush@127.0.0.1:1/db")
    assert "hush" not in str(raised.value)
