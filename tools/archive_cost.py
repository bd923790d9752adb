"""Measure time, file size and peak memory of backup, restore and check.

    .venv/bin/python tools/archive_cost.py [--rows 200000] [--gigabytes 0] [--store URL]
                                           [--former DIR] [--folder DIR]

The store has rows of 300 bytes, and the given gigabytes in bodies of 4 MB. With `--store`, the
backup is also restored into that empty database, and taken from it. `--former` is the root of an
earlier version of the code, for comparison. The disk needs five times the size of the store.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "support")]

from tests_support import CountingEntropy  # noqa: E402  # found on the path that is set above
from value_bench import Bench, Write  # noqa: E402  # found on the path that is set above

from spaces.identity import ensure_identity  # noqa: E402  # found on the path that is set above
from spaces.store.contract import Commit, Put  # noqa: E402  # found on the path that is set above
from spaces.store.lmdb.engine import open_lmdb  # noqa: E402  # found on the path that is set above

ROW_BYTES = 300
LARGE_BYTES = 4_000_000
IN_A_COMMIT = 250
_COMMAND = (
    sys.executable,
    "-P",
    "-c",
    "import sys; from sealspace.cli.root import main; sys.exit(main())",
    "admin",
)


async def fill(folder: Path, rows: int, large_bytes: int) -> None:
    """Write a store with a number of rows, and bodies of a total size."""
    store = open_lmdb(folder)
    try:
        await ensure_identity(store, node_did="did:key:z6MkBenchmark", entropy=CountingEntropy())
        bench = Bench(store, folder / "blobs")
        for at in range(large_bytes // LARGE_BYTES):
            await bench.write(Write(f"large/{at}", os.urandom(LARGE_BYTES)))
        for first in range(0, rows, IN_A_COMMIT):
            keys = [b"V%032d" % at for at in range(first, min(first + IN_A_COMMIT, rows))]
            await store.commit(Commit(puts=tuple(Put(key, os.urandom(ROW_BYTES)) for key in keys)))
    finally:
        await store.close()


def measure(label: str, *arguments: str, code: Path = REPOSITORY) -> None:
    """Run a command, and print its duration and its peak private memory."""
    began = time.perf_counter()
    with subprocess.Popen(  # our own interpreter with our own commands
        [*_COMMAND, *arguments, "--json"],
        env={**os.environ, "PYTHONPATH": str(code)},
        cwd=code,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        own_kib = 0
        while process.poll() is None:
            own_kib = max(own_kib, _own_kib(process.pid))
            time.sleep(0.02)
    seconds = time.perf_counter() - began
    # Pages of the store's file that are mapped are the kernel's: they are given back when anyone
    # needs memory.
    print(
        f"{label:32} status {process.returncode}, {seconds:6.1f} s, {own_kib / 1024:6.1f} MiB of"
        " its own",
        flush=True,
    )


def _own_kib(pid: int) -> int:
    """Return the memory of a process and its children, without pages of files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own_kib = max(
        (int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), default=0
    )
    return own_kib + sum(_own_kib(int(child)) for child in children)


def rounds(folder: Path, data: Path, former: Path | None, url: str | None) -> None:
    """Run backup, restore and check on each engine with each version of the code."""
    versions = {"": REPOSITORY} | ({"former code: ": former} if former else {})
    for label, code in versions.items():
        file, restored = folder / f"{code.name}.tar", folder / f"restored-{code.name}"
        measure(f"{label}backup from LMDB", "backup", str(file), "--data", str(data), code=code)
        print(f"{label}{file.stat().st_size / 1e6:.0f} MB")
        measure(
            f"{label}restore into LMDB", "restore", str(file), "--data", str(restored), code=code
        )
        measure(f"{label}check on LMDB", "check", "--data", str(restored), code=code)
    if url is not None:
        there, file = ("--data", str(folder / "there"), "--store", url), folder / "database.tar"
        measure(
            "restore into PostgreSQL", "restore", str(folder / f"{REPOSITORY.name}.tar"), *there
        )
        measure("backup from PostgreSQL", "backup", str(file), *there)
        print(f"{file.stat().st_size / 1e6:.0f} MB")
        measure("check on PostgreSQL", "check", *there)


def main() -> None:
    """Fill a store, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--gigabytes", type=float, default=0.0)
    parser.add_argument("--store", default=None)
    parser.add_argument("--former", type=Path, default=None)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        asyncio.run(fill(folder / "data", given.rows, int(given.gigabytes * 1e9)))
        rounds(folder, folder / "data", given.former and given.former.resolve(), given.store)


if __name__ == "__main__":
    main()
