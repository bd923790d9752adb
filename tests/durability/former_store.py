"""A data folder as a named version wrote it, and what a later version has to find in it.

    PYTHONPATH=tests:tests/support python -m durability.former_store COMMIT

Run this with the product at COMMIT. It writes `former_stores/COMMIT.tar.xz` beside this module: the
data folder of a node with its root secret, and `written.json`. The root secret and the owner's key
exist for this purpose only.
"""

import asyncio
import io
import json
import sys
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from embedded_node import embedded_node
from tests_support import FixedClock

from capabilities.abilities import DECRYPT, NETWORK_CREATE, READ_RECEIPTS
from node.config.tree import Config, Http, Store
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.session import Session
from sealspace.wallets import Wallet, wallet_from_key
from sealspace.wire.sign_in import SignIn
from spaces.keyspace import SCHEMA_VERSION

FOLDER = Path(__file__).with_name("former_stores")
WRITTEN = "written.json"
# The moment of writing. A reader's clock is a little later, so nothing has expired.
WRITTEN_AT = 1_795_648_000.0
LATER_S = 600.0

SMALL, LARGE = b"small \x00 value", b"a large value, beyond what is stored inline. " * 4_000
SECRET, FORMER_SECRET = "open sesame", "opened before"
FRIEND = "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH"
NETWORK_ABILITIES = (DECRYPT, NETWORK_CREATE, READ_RECEIPTS)
_LARGEST_BYTES = 300_000


@dataclass(frozen=True)
class Written:
    """What a reader needs to know besides the constants of this module.

    Attributes:
        commit: the version that wrote the store.
        schema: the schema of the store.
        live: cid of a delegation that is neither revoked nor expired.
        revoked: cid of a revoked one.
        releases: the number of released keys.
    """

    commit: str
    schema: int
    live: str
    revoked: str
    releases: int


def config_of(data: Path) -> Config:
    """Return the settings of a node on a data folder."""
    return Config(http=Http(port=0, drain_s=0), store=Store(data=str(data)))


def owner() -> Wallet:
    """Return the wallet of the store's owner."""
    return wallet_from_key(b"\x11" * 32)


async def sign_in(client: Client) -> Session:
    """Sign in as the owner, with the right to read receipts too."""
    return await client.sign_in(owner(), SignIn(network_abilities=NETWORK_ABILITIES))


async def write(data: Path, commit: str) -> Written:
    """Write a store with one of everything that users rely on."""
    clock = FixedClock(WRITTEN_AT)
    async with (
        embedded_node(config_of(data), clock=clock) as node,
        Client(node.url, clock=clock) as client,
    ):
        session = await sign_in(client)
        kv = client.kv("default")
        await kv.put("folder/small", SMALL, metadata={"x-note": "kept"})
        await kv.put("folder/large", LARGE)
        await kv.put("folder/replaced", b"first")
        await kv.put("folder/replaced", b"second")
        await kv.put("folder/deleted", b"gone")
        await kv.delete("folder/deleted")
        secrets = client.secrets()
        await secrets.put("API_KEY", FORMER_SECRET)
        await secrets.put("API_KEY", SECRET)
        await secrets.get("API_KEY")
        sql = client.sql()
        await sql.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)")
        await sql.execute("INSERT INTO notes (body) VALUES (?)", ["a row"])
        right = allow(f"{kv.space.text}/kv/folder/", "tinycloud.kv/get")
        live = await client.delegations.delegate(FRIEND, [right], ttl_s=86_400)
        revoked = await client.delegations.delegate(FRIEND, [right], ttl_s=43_200)
        await client.delegations.revoke(revoked)
        assert session.owner == owner().did
        releases = [release async for release in client.receipts.releases()]
        return Written(commit, SCHEMA_VERSION, live.cid, revoked.cid, len(releases))


def pack(data: Path, written: Written, archive: Path) -> None:
    """Write the archive of a data folder whose node has ended."""
    listed = json.dumps(asdict(written), indent=2).encode() + b"\n"
    with tarfile.open(archive, "w:xz") as packed:
        entry = tarfile.TarInfo(WRITTEN)
        entry.size = len(listed)
        packed.addfile(entry, io.BytesIO(listed))
        for path in sorted(data.rglob("*")):
            if path.is_file():
                packed.add(path, f"data/{path.relative_to(data)}", filter=_without_names)
    assert archive.stat().st_size < _LARGEST_BYTES, archive.stat().st_size


def unpack(archive: Path, folder: Path) -> Written:
    """Unpack an archive into a folder, with the store in `data`."""
    with tarfile.open(archive) as packed:
        # The names are checked here: Python 3.11.2 has no filters, and later ones ask for one.
        packed.extraction_filter = getattr(tarfile, "data_filter", None)
        for entry in packed:
            assert entry.isfile() and ".." not in Path(entry.name).parts, entry.name
            assert not Path(entry.name).is_absolute(), entry.name
            packed.extract(entry, folder)
    (folder / "data").chmod(0o700)
    return Written(**json.loads((folder / WRITTEN).read_text("utf-8")))


def _without_names(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = WRITTEN_AT
    return entry


def main(commit: str) -> None:
    """Write the archive of this version."""
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        written = asyncio.run(write(data, commit))
        pack(data, written, FOLDER / f"{commit}.tar.xz")


if __name__ == "__main__":
    main(*sys.argv[1:])
