"""Record the demo into `docs/demo.cast`, in asciicast version 2: `make cast`.

The demo runs in its own terminal. Play the recording with `asciinema play docs/demo.cast`.
"""

import codecs
import json
import os
import re
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

CAST = Path(__file__).parents[2] / "docs" / "demo.cast"
DEMO = CAST.parents[1] / "examples" / "demo.py"
COLUMNS = 108
ROWS = 42
LONGEST_PAUSE_S = 1.5


def recorded(command: list[str]) -> list[list[float | str]]:
    """Run a command in a terminal, and return its output with the seconds since its start."""
    terminal, its = os.openpty()
    ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**os.environ, "TERM": "xterm-256color"}
    )
    os.close(its)
    events: list[list[float | str]] = []
    text = codecs.getincrementaldecoder("utf-8")()  # a read may end inside a character
    shown_s, last = 0.0, time.monotonic()
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        now = time.monotonic()
        shown_s, last = shown_s + min(now - last, LONGEST_PAUSE_S), now
        events.append([round(shown_s, 3), "o", text.decode(data)])
    os.close(terminal)
    if process.wait() != 0:
        sys.exit("the demo failed; nothing was recorded")
    return events


def lines_of(cast: str) -> list[str]:
    """Return the lines of a recording, without colours."""
    shown = "".join(json.loads(line)[2] for line in cast.splitlines()[1:])
    return re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r", "").splitlines()


if __name__ == "__main__":
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "sealspace demo"}
    lines = [header, *recorded([sys.executable, str(DEMO)])]
    CAST.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
