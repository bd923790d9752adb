"""The example backend, `examples/backend.py`, in a separate process.

Example:
    with serving(tmp_path, node.url) as url: ...
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests_support import REPOSITORY


@contextmanager
def serving(folder: Path, node: str) -> Iterator[str]:
    """Run the backend on the platform `tee` in a folder until the block ends, and yield its
    address."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(REPOSITORY / "examples" / "backend.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        env={**os.environ, "SEALSPACE_NODE": node, "PORT": "0", "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
