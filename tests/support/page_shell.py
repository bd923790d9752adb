"""Execution of a page's blocks in order, in one shell, with a new home and folder, as a reader
would.

Example:
    ended = run_page(PAGE.read_text("utf-8"), folder, node=url)
    assert ended.problem is None
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from held_ports import held_ports
from page_blocks import Block, blocks_of
from patience import PATIENCE_S

NODE_PORT = 8000
"""Where pages have their node; the other ports are those of their backends and applications."""
_PORTS = (NODE_PORT, 8001, 8080, 8081, 5000, 9464)
_MARK = "--- block {} ---"
_LIMIT_S = 3 * PATIENCE_S
_INSTALLED = str(Path(sys.executable).parent)


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of running a page: the first block whose outcome differs from the page, or
    None."""

    problem: str | None
    printed: list[str]


def run_page(page: str, folder: Path, *, programs: Path, node_port: int | None = None) -> Ended:
    """Run every block of a page except those that the page excludes.

    Args:
        page: the text.
        folder: empty, or with what the page supposes to be there; the home is beside it.
        programs: first on the path of all but what goes on running.
        node_port: of the node that the page supposes; None: it starts one.
    """
    with held_ports(len(_PORTS)) as held:
        ports = dict(zip(_PORTS, held, strict=True))
        if node_port is not None:
            ports[NODE_PORT] = node_port
        return _ended(page, folder, programs, ports)


def _ended(page: str, folder: Path, programs: Path, ports: Mapping[int, int]) -> Ended:
    """Run the blocks of a page with other ports."""
    moved = re.sub(
        rf"\b({'|'.join(map(str, _PORTS))})\b", lambda one: str(ports[int(one[0])]), page
    )
    blocks = [block for block in blocks_of(moved) if block.kind != "left out"]
    beside = folder.parent / f"{folder.name}-blocks"
    beside.mkdir()
    script = "\n".join(_script(beside, at, block) for at, block in enumerate(blocks))
    status, printed = _run(script, folder, programs, ports[NODE_PORT])
    parts = re.split(r"^--- block \d+ ---\n", printed, flags=re.M)[1:]
    for block, part in zip(blocks, parts, strict=False):
        if block.box is not None and not _matches(block.box, part):
            return Ended(f"{block.text}\nprinted\n{part}\nand not\n{block.box}", parts)
    if status != 0:
        return Ended(f"{blocks[len(parts) - 1].text}\nended with {status}:\n{parts[-1]}", parts)
    return Ended(None, parts)


def _script(beside: Path, at: int, block: Block) -> str:
    """Return the shell commands for one block."""
    text = beside / f"{at}.{'py' if block.kind == 'program' else 'sh'}"
    text.write_text(block.text, "utf-8")
    (beside / f"{at}.typed").write_text(f"{block.typed}\n" if block.typed else "", "utf-8")
    mark = f"echo; echo '{_MARK.format(at)}'\n"
    if block.kind == "file":
        name = shlex.quote(block.name)
        return f'{mark}mkdir -p "$(dirname {name})"; cp {text} {name}'
    run = f"python {text}" if block.kind == "program" else f". {text}"
    if block.stays:
        log = beside / f"{at}.log"
        command = run if block.kind == "program" else block.text.strip()
        return (
            f"{mark}: > {log}\nPATH={_INSTALLED}:$PATH {command} < /dev/null > {log} 2>&1"
            f" &\nis_listening {log} $!"
        )
    run += f" < {beside}/{at}.typed"
    return (
        f"{mark}{run}"
        if block.status == 0
        else f"{mark}set +e\n{run}\nended {block.status} $?\nset -e"
    )


_FUNCTIONS = """
set -euo pipefail
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT  # or the pipe would stay open
is_listening() {
    until grep -Eq '(listening|[Rr]unning) on http' "$1"; do
        kill -0 "$2" 2> /dev/null || { cat "$1"; return 1; }
        sleep 0.05
    done
    cat "$1"
}
ended() { [ "$1" = "$2" ] || { echo "ended with $2"; exit 1; }; }
"""


def _run(script: str, folder: Path, programs: Path, port: int) -> tuple[int, str]:
    """Run a script in a separate session, and end all processes that it leaves running."""
    home = folder.parent / f"{folder.name}-home"
    home.mkdir()
    kept = {
        name: text
        for name, text in os.environ.items()
        if name in ("LANG", "PYTHONPATH", "PYTHONPYCACHEPREFIX", "TMPDIR")
    }
    process = subprocess.Popen(
        ["bash", "-c", _FUNCTIONS + script],
        cwd=folder,
        env={
            **kept,
            "HOME": str(home),
            "PATH": os.pathsep.join(
                [str(programs), _INSTALLED, os.environ.get("PATH", os.defpath)]
            ),
            # both streams in one pipe, in the order in which a terminal shows them
            "PYTHONUNBUFFERED": "1",
            "SEALSPACE_HTTP__PORT": str(port),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=_LIMIT_S)
    except subprocess.TimeoutExpired as late:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError((late.stdout or b"")[-4000:]) from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, printed


def _matches(box: str, printed: str) -> bool:
    lines = (
        r"(?:\n.*)*" if line == "…" else r"\n" + ".*".join(map(re.escape, line.split("…")))
        for line in box.strip().split("\n")
    )
    return re.fullmatch("".join(lines), "\n" + printed.strip()) is not None
