"""The example backend as a process of its own.

Example:
    with serving(tmp_path, "--node", node.url) as url: ...
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from running_node import COMMAND
from tests_support import REPOSITORY


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """Run the example backend as a process of its own until the block ends; yields its address."""
    process = subprocess.Popen(
        [*COMMAND, "backend", "serve", "--simulate", "tee", "--secret", "API_KEY", "--port", "0", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "SEALSPACE_HOME": str(folder / "home")},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=120)[1]
    assert 0 == process.returncode, said
