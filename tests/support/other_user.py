"""A search of the machine for a text, by a user who owns nothing on it. Needs root.

Example:
    search = search_as_other_user(processes_of(os.getpid()), spellings("canary"), [folder])
    assert not search.found
"""

import base64
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from live_processes import started_by

NOBODY = 65534
OPEN_TO_ALL = ("cmdline", "comm", "stat", "status")
CLOSED = ("environ", "fd", "io", "maps", "mem")
"""Files of a process in /proc that only its own user may open."""

# It reads its orders from standard input, so that the text is not in its own command line.
_PROGRAM = """
import json, os, stat, sys
from pathlib import Path

orders = json.load(sys.stdin)
texts = [text.encode() for text in orders["texts"]]
os.setgroups([])
os.setresgid(*[orders["uid"]] * 3)
os.setresuid(*[orders["uid"]] * 3)
opened, found = [], []


def look(path, most):
    with path.open("rb", buffering=0) as file:
        opened.append(str(path))
        data = b""
        while len(data) < most and (more := file.read(1 << 20)):
            data += more
    if any(text in data for text in texts):
        found.append(str(path))


def attempt(path, most=1 << 24):
    try:
        look(path, most)
    except OSError:
        pass


for process in orders["processes"]:
    for name in orders["names"]:
        attempt(Path("/proc", str(process), name))
    try:
        entries = [Path(entry) for entry in os.scandir(f"/proc/{process}/fd")]
        opened.append(f"/proc/{process}/fd")
    except OSError:
        entries = [Path(f"/proc/{process}/fd/{number}") for number in range(256)]
    for entry in entries:
        attempt(entry)
attempt(Path("/proc/mounts"))
for folder in orders["folders"]:
    for place, _, names in os.walk(folder):
        opened.append(place)
        for path in (Path(place, name) for name in names):
            try:
                about = path.lstat()
            except OSError:
                continue
            # What did not change since the secret was made does not contain it. Times of files lag
            # behind the clock by a tick of the kernel.
            changed_ns = about.st_ctime_ns + 20_000_000
            if stat.S_ISREG(about.st_mode) and changed_ns >= orders["since_ns"]:
                attempt(path)
json.dump({"opened": opened, "found": found}, sys.stdout)
"""


class Search(NamedTuple):
    """The files and folders that another user could open, and those that contain the text."""

    opened: frozenset[str]
    found: frozenset[str]


def spellings(text: str) -> list[str]:
    """Return a text as it is, in base64 (without the padding and the last bits) and in hex."""
    data = text.encode()
    whole = data[: len(data) // 3 * 3]
    return [text, base64.b64encode(whole).decode(), data.hex()]


def processes_of(process: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [process]
    for one in found:
        found += started_by(one)
    return found


def search_as_other_user(
    processes: Iterable[int], texts: Iterable[str], folders: Iterable[Path], *, since_ns: int
) -> Search:
    """Search all that another user can open of these processes and folders.

    Files that did not change after `since_ns` are left out.
    """
    orders = {
        "uid": NOBODY,
        "processes": [*processes],
        "names": [*OPEN_TO_ALL, *CLOSED],
        "texts": [*texts],
        "folders": [str(one) for one in folders],
        "since_ns": since_ns,
    }
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM], input=json.dumps(orders).encode(), stdout=-1, check=True
    )
    return Search(*(frozenset(part) for part in json.loads(ended.stdout).values()))
