"""Tests of nodes with large values in a bucket: real processes, outages and crashes."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import aiohttp
import pytest
from durability.test_kills import Load
from forked_programs import forked_program
from patience import PATIENCE_S
from postgres_server import needs_postgres, postgres_server
from running_node import COMMAND, Reply, RunningNode, exchange, key_token, new_key, running_node
from s3_server import KEY_ID, SECRET_KEY, S3Server, s3_server
from tests_support import OUR_IMPORTS

from node.config.loading import load_config
from node.config.tree import Config, Http, Objects
from node.storage.objects import location_text, open_bucket
from sealspace.service.command_errors import ConfigurationError
from spaces.values.object_bucket import BucketLocation

pytestmark = pytest.mark.slow

LARGE = bytes(range(256)) * 1000
HUGE = LARGE * 21
"""Longer than one part of an upload to a bucket, which is 5 MiB."""
KILLS = 4


@pytest.fixture
def server() -> S3Server:
    """The object store's server."""
    return s3_server()


@pytest.fixture
def place(server: S3Server) -> BucketLocation:
    """An empty prefix of a bucket."""
    return server.new_bucket()


def environment(server: S3Server, place: BucketLocation) -> dict[str, str]:
    """Return the settings of a node on a bucket."""
    return {
        "SEALSPACE_OBJECTS__URL": f"s3://{place.bucket}/{place.prefix}",
        "SEALSPACE_OBJECTS__ENDPOINT": server.endpoint,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body in pieces, like a client that reads a file."""
    for first in range(0, len(body), len(LARGE)):
        yield body[first : first + len(LARGE)]


class Owner:
    """A key that stores values at several nodes."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.signer = new_key()

    async def call(
        self, url: str, ability: str, path: str, body: bytes | AsyncIterator[bytes] | None = None
    ) -> Reply:
        """Send one call, with a large body in pieces."""
        if isinstance(body, bytes) and len(body) > len(LARGE):
            body = in_pieces(body)
        resource = f"tinycloud:{self.signer.did.removeprefix('did:')}:default/kv/{path}"
        token = key_token(self.signer, self.signer.did, {resource: [f"tinycloud.kv/{ability}"]})
        return await exchange(self.session, url, "POST", "/invoke", token=token, body=body)


@pytest.fixture
async def owner() -> AsyncIterator[Owner]:
    """An owner with values."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
        yield Owner(session)


def ready(node: RunningNode) -> dict[str, object]:
    try:
        with urlopen(f"{node.url}/readyz", timeout=PATIENCE_S) as answer:
            said: dict[str, object] = json.loads(answer.read())
    except HTTPError as error:
        said = json.loads(error.read())
    return said


@pytest.fixture
def nodes(tmp_path: Path, server: S3Server, place: BucketLocation) -> Iterator[list[RunningNode]]:
    """Two nodes with one secret, one database and one bucket, as on two machines."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    secret.chmod(0o600)
    arguments = ("--store", postgres_server().new_database(), "--secret-file", str(secret))
    with ExitStack() as running:
        yield [
            running.enter_context(
                running_node(
                    tmp_path / name, *arguments, workers=1, environment=environment(server, place)
                )
            )
            for name in ("one", "two")
        ]


@needs_postgres()
async def test_two_nodes_share_a_bucket(nodes: list[RunningNode], owner: Owner) -> None:
    """A large value put at one node is read, replaced and deleted at the other."""
    one, two = nodes
    assert (await owner.call(one.url, "put", "a", LARGE)).status == 200
    assert (await owner.call(two.url, "get", "a")).body == LARGE
    assert (await owner.call(two.url, "put", "a", HUGE)).status == 200
    assert (await owner.call(one.url, "get", "a")).body == HUGE
    assert (await owner.call(one.url, "del", "a")).status == 200
    assert (await owner.call(two.url, "get", "a")).status == 404
    assert all(ready(node)["objects"] == "ok" for node in nodes)


async def test_bucket_that_is_away_and_comes_back(
    tmp_path: Path, server: S3Server, place: BucketLocation, owner: Owner
) -> None:
    """During an outage of the bucket large values are 503, and small ones work.

    The node is not ready during the outage, and recovers by itself without losing acknowledged
    values.
    """
    with running_node(tmp_path, workers=1, environment=environment(server, place)) as node:
        assert (await owner.call(node.url, "put", "large", LARGE)).status == 200
        with server.away():
            for reply in (
                await owner.call(node.url, "put", "other", LARGE[1:]),
                await owner.call(node.url, "put", "other", HUGE),
                await owner.call(node.url, "get", "large"),
            ):
                assert (reply.status, reply.headers.get("retry-after")) == (503, "1"), reply
            assert (await owner.call(node.url, "put", "small", b"small")).status == 200
            assert (await owner.call(node.url, "get", "small")).body == b"small"
            assert ready(node)["objects"] == "store-unavailable"
            assert ready(node)["ready"] is False
        assert (await owner.call(node.url, "get", "large")).body == LARGE
        assert (await owner.call(node.url, "get", "other")).status == 404
        assert (await owner.call(node.url, "put", "other", HUGE)).status == 200
        assert SECRET_KEY not in "\n".join(node.lines)
        assert node.stop() == 0


async def test_node_killed_in_the_middle_of_an_upload(
    tmp_path: Path, server: S3Server, place: BucketLocation, owner: Owner
) -> None:
    """A partial upload of a killed node is not visible, and the previous value remains."""
    with running_node(tmp_path, workers=1, environment=environment(server, place)) as node:
        assert (await owner.call(node.url, "put", "a", LARGE)).status == 200
        begun = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield LARGE
                if await asyncio.to_thread(server.unfinished, place):
                    begun.set()

        upload = asyncio.create_task(owner.call(node.url, "put", "a", endless()))
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
        await asyncio.to_thread(node.kill)
        with pytest.raises(aiohttp.ClientError):
            await upload
    assert server.unfinished(place) == 1
    with running_node(tmp_path, workers=1, environment=environment(server, place)) as node:
        assert (await owner.call(node.url, "get", "a")).body == LARGE
        bodies = [
            key for key in server.keys(place) if key != "store" and not key.startswith("incoming/")
        ]
        assert len(bodies) == 1


async def test_node_killed_under_load(
    tmp_path: Path, server: S3Server, place: BucketLocation
) -> None:
    """Every acknowledged value in the bucket is complete after repeated kills of the node."""
    load = Load()
    for kill in range(KILLS):
        with running_node(tmp_path, environment=environment(server, place)) as node:
            await load.check(node)
            await load.until_killed(node, after=60 + 20 * kill)
    with running_node(tmp_path, environment=environment(server, place)) as node:
        await load.check(node)
    assert any(not key.startswith(("incoming/", "store")) for key in server.keys(place))


def command(
    name: str, folder: Path, *arguments: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    options = ("--data", str(folder / "data"), *arguments)
    called = [forked_program("sealspace"), *name.split(), *options]
    variables = {"PATH": "/usr/bin:/bin", **variables}
    return subprocess.run(
        called, capture_output=True, text=True, check=False, env=variables, timeout=PATIENCE_S
    )


async def test_large_values_move_into_a_bucket_and_back(
    tmp_path: Path, server: S3Server, place: BucketLocation, owner: Owner
) -> None:
    """A node does not start without its large values; `migrate-objects` moves them.

    It continues after it was killed in the middle.
    """
    settings = environment(server, place)
    values = {f"v{at}": HUGE[at:] for at in range(4)} | {"same": HUGE}
    with running_node(tmp_path, workers=1) as node:
        for path, value in values.items():
            assert (await owner.call(node.url, "put", path, value)).status == 200
        running = command("admin migrate-objects", tmp_path, "--to", "bucket", **settings)
        assert "stop the node" in running.stderr
    refused = command("serve", tmp_path, "--port", "0", **settings)
    assert refused.returncode == 5
    assert "migrate-objects" in refused.stderr
    assert "migrate-objects" in command("doctor", tmp_path, **settings).stdout
    await asyncio.to_thread(_killed_move, tmp_path, server, place, settings)
    moved = json.loads(
        command("admin migrate-objects", tmp_path, "--to", "bucket", **settings).stdout
    )
    assert moved["bodies"] == 4 and moved["copied"] < 4
    assert moved["bytes"] == sum(len(HUGE[at:]) for at in range(4))
    refused = command("serve", tmp_path, "--port", "0")
    assert refused.returncode == 5
    assert "migrate-objects" in refused.stderr
    healthy = command("doctor", tmp_path, **settings)
    assert healthy.returncode == 0, healthy.stdout
    for place_of_files in (tmp_path / "data" / "blobs").glob("*/*"):
        place_of_files.unlink()
    with running_node(tmp_path, workers=1, environment=settings) as node:
        for path, value in values.items():
            assert (await owner.call(node.url, "get", path)).body == value
    back = command("admin migrate-objects", tmp_path, "--to", "folder", **settings)
    assert json.loads(back.stdout)["copied"] == 4, back.stderr
    with running_node(tmp_path, workers=1) as node:
        for path, value in values.items():
            assert (await owner.call(node.url, "get", path)).body == value


def _killed_move(
    folder: Path, server: S3Server, place: BucketLocation, settings: dict[str, str]
) -> None:
    """Begin a move, and kill it once the bucket contains a body."""
    called = [
        *COMMAND,
        "admin",
        "migrate-objects",
        "--data",
        str(folder / "data"),
        "--to",
        "bucket",
    ]
    variables = {**OUR_IMPORTS, "PATH": "/usr/bin:/bin", **settings}
    with subprocess.Popen(
        called, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"1 bodies in place\n"
        os.kill(process.pid, signal.SIGKILL)
    assert any(not key.startswith("incoming/") and key != "store" for key in server.keys(place))


async def test_bucket_of_another_store_is_refused(
    tmp_path: Path, server: S3Server, place: BucketLocation
) -> None:
    """A second store does not start on the prefix of the first."""
    settings = environment(server, place)
    with running_node(tmp_path / "one", workers=1, environment=settings):
        pass
    refused = command("serve", tmp_path / "two", "--port", "0", **settings)
    assert refused.returncode == 5
    assert "another store" in refused.stderr


# --- settings

_GOOD = {"url": "s3://bucket/some/prefix", "key_id": "k", "secret_key": "hush"}


@pytest.mark.parametrize(
    "bad",
    [
        {"url": "https://bucket"},
        {"url": "s3://"},
        {"url": "s3://user:hush@bucket"},
        {"url": "s3://bucket?x=y"},
        {"url": "s3://bucket/a/incoming/b"},
        {"url": "s3://[bucket"},
        {"key_id": None},
        {"secret_key": None},
        {"secret_key": None, "secret_key_file": "/nowhere"},
        {"endpoint": "s3.example"},
        {"endpoint": "https://s3.example/path"},
        {"endpoint": "https://user:hush@s3.example"},
        {"endpoint": "https://[s3"},
    ],
)
def test_settings_that_do_not_fit(bad: dict[str, str | None]) -> None:
    """Invalid bucket, server or credential settings are refused without quoting a credential."""
    with pytest.raises(ConfigurationError) as refused:
        open_bucket(Config(objects=Objects(**{**_GOOD, **bad})))  # type: ignore[arg-type]  # by name
    assert "hush" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize("named", ["missing.pem", "empty.pem", "text.pem"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_authorities_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, scheme: str
) -> None:
    """A user whose SSL_CERT_FILE has no certificate is told that name and what to set."""
    (tmp_path / "empty.pem").touch()
    (tmp_path / "text.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / named))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    settings = {**_GOOD, "endpoint": f"{scheme}://127.0.0.1:9"}
    with pytest.raises(ConfigurationError) as refused:
        open_bucket(Config(objects=Objects(**settings)))
    assert f"SSL_CERT_FILE is '{tmp_path / named}'" in refused.value.message
    assert "SSL_CERT_FILE" in refused.value.hint


def test_bodies_that_a_bucket_does_not_copy() -> None:
    """A body limit beyond a bucket's limit for copies is refused."""
    config = Config(objects=Objects(**_GOOD), http=Http(max_body_bytes=5_000_000_001))
    with pytest.raises(ConfigurationError):
        open_bucket(config)


def test_place_has_one_spelling() -> None:
    """The recorded place is the same for every spelling of an address."""
    assert location_text(Config(objects=Objects(url="s3://b/p/q/"))) == "s3://b/p/q"
    assert (
        location_text(Config(objects=Objects(url="s3://b/")))
        == location_text(Config(objects=Objects(url="s3://b")))
        == "s3://b"
    )
    assert location_text(Config()) == "folder"


def test_credentials_of_a_bucket(tmp_path: Path) -> None:
    """Credentials come from our variables, a file or AWS variables, never from a settings file."""
    standard = {
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "AWS_SESSION_TOKEN": "hush",
    }
    named = {"SEALSPACE_OBJECTS__URL": "s3://b"}
    config = load_config(environment={**standard, **named})
    assert config.objects.key_id == "k"
    assert config.objects.secret_key == "hush"
    assert config.objects.session_token == "hush"
    assert "hush" not in repr(config)
    assert load_config(environment=standard).objects.secret_key is None
    own = {"SEALSPACE_OBJECTS__KEY_ID": "own", "SEALSPACE_OBJECTS__SECRET_KEY": "mine"}
    objects = load_config(environment={**standard, **named, **own}).objects
    assert objects.key_id == "own"
    assert objects.secret_key == "mine"
    assert objects.session_token is None
    file = tmp_path / "key"
    file.write_text(" hush\n")
    with_file = Config(objects=Objects(url="s3://b", key_id="k", secret_key_file=str(file)))
    assert "hush" not in repr(open_bucket(with_file))
    for content in (b"", b"\xff", b"x" * 5000):
        file.write_bytes(content)
        with pytest.raises(ConfigurationError):
            open_bucket(with_file)
    with pytest.raises(ConfigurationError):
        load_config(environment={**own, **named, "SEALSPACE_OBJECTS__SECRET_KEY_FILE": "x"})
    for name in ("secret_key", "session_token"):
        settings = tmp_path / "sealspace.toml"
        settings.write_text(f'[objects]\n{name} = "hush"\n')
        with pytest.raises(ConfigurationError) as refused:
            load_config(file=settings, environment={})
        assert "hush" not in str(refused.value)
