"""What a backup, a restore and a check of a gigabyte cost: seconds, and the most memory of each command. By hand.

    .venv/bin/python tools/benchmarks/backup_memory.py [--gigabytes 1] [--folder DIR]

Half of the bytes are values in rows, half are large values in files. It needs four times the space on the disk.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "support")]

from tests_support import CountingEntropy  # noqa: E402  # found on the path that is set above
from value_bench import Bench, Write  # noqa: E402  # found on the path that is set above

from spaces.identity import open_identity  # noqa: E402  # found on the path that is set above
from spaces.store.lmdb.engine import open_lmdb  # noqa: E402  # found on the path that is set above

SMALL_BYTES = 50_000
LARGE_BYTES = 4_000_000
IN_A_COMMIT = 50
_COMMAND = (sys.executable, "-P", "-c", "import sys; from sealspace.cli.root import main; sys.exit(main())", "admin")


async def fill(folder: Path, size_bytes: int) -> None:
    """Write a store of about so many bytes, with bodies that differ."""
    store = open_lmdb(folder)
    try:
        await open_identity(store, node_did="did:key:z6MkBenchmark", entropy=CountingEntropy())
        bench = Bench(store, folder / "blobs")
        for at in range(0, size_bytes // 2 // SMALL_BYTES, IN_A_COMMIT):
            await bench.write(*[Write(f"small/{at + one}", os.urandom(SMALL_BYTES)) for one in range(IN_A_COMMIT)])
        for at in range(size_bytes // 2 // LARGE_BYTES):
            await bench.write(Write(f"large/{at}", os.urandom(LARGE_BYTES)))
    finally:
        await store.close()


def measure(*arguments: str) -> None:
    """Run a command and print how long it took, and the most memory that was its own."""
    began = time.perf_counter()
    with subprocess.Popen(
        [*_COMMAND, *arguments, "--json"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        own_kib = 0
        while process.poll() is None:
            own_kib = max(own_kib, _own_kib(process.pid))
            time.sleep(0.02)
    seconds = time.perf_counter() - began
    # Pages of the store's file that are mapped are the kernel's: they are given back when anyone needs memory.
    print(f"{arguments[0]:8} status {process.returncode}, {seconds:6.1f} s, {own_kib / 1024:6.1f} MiB of its own")


def _own_kib(pid: int) -> int:
    """Return the memory of a process and of those that it started, without pages of files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own_kib = max((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), default=0)
    return own_kib + sum(_own_kib(int(child)) for child in children)


def main() -> None:
    """Fill, back up, restore, check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        asyncio.run(fill(folder / "data", int(given.gigabytes * 1e9)))
        measure("backup", str(folder / "file"), "--data", str(folder / "data"))
        print(f"the backup has {(folder / 'file').stat().st_size / 1e6:.0f} MB")
        measure("restore", str(folder / "file"), "--data", str(folder / "restored"))
        measure("check", "--data", str(folder / "restored"))


if __name__ == "__main__":
    main()
