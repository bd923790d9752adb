"""Who is at an address or has a data folder: for messages; what cannot be known is left out.

Example:
    process_that_locks(Path("data"))  # "process 4711 (sealspace)"
"""

import json
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Final

from sealspace.printable import printable

_ANSWER_S: Final = 2.0
_ANSWER_BYTES: Final = 64 * 1024
_LOCK_FILE: Final = "storekeeper.lock"


def node_at(host: str, port: int) -> str:
    """Return the DID that a node on this machine states at an address; empty if none answers."""
    named = f"[{host}]" if ":" in host else host
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError, ValueError):
        with direct.open(f"http://{named}:{port}/info", timeout=_ANSWER_S) as answer:
            stated = json.loads(answer.read(_ANSWER_BYTES))
        if isinstance(stated, dict) and isinstance(stated.get("nodeId"), str):
            return printable(stated["nodeId"][:200])
    return ""


def process_that_locks(folder: Path) -> str:
    """Return the process that has the right to write a data folder; empty if none has, or it is not known."""
    with suppress(OSError):
        inode = (folder / _LOCK_FILE).stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
                pid = int(fields[4])
                return f"process {pid} ({printable(Path(f'/proc/{pid}/comm').read_text().strip())})"
    return ""
