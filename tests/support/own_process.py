"""Tests that run in a separate process, because they limit what a whole process may do.

In the process of the tests the limit would also apply to a node that runs there for many tests. If
its store cannot write while the limit applies, it stops for good, and a later test fails.

Example:
    @in_own_process
    def test_full_disk(tmp_path: Path) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
"""

import functools
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from patience import PATIENCE_S

_MAIN = """
import pickle, sys
from importlib.util import module_from_spec, spec_from_file_location

name, path, test, sys.path, arguments = pickle.load(sys.stdin.buffer)
spec = spec_from_file_location(name, path)
sys.modules[name] = module_from_spec(spec)
spec.loader.exec_module(sys.modules[name])
getattr(sys.modules[name], test).__wrapped__(**pickle.loads(arguments))
"""


def in_own_process(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a separate process. Its arguments have to be picklable."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        path = test.__code__.co_filename
        given = (test.__module__, path, test.__name__, sys.path, pickle.dumps(arguments))
        ended = subprocess.run(
            [sys.executable, "-P", "-c", _MAIN],
            input=pickle.dumps(given),
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr.decode()

    return run


def refuse_limits_for_all() -> None:
    """Prevent tests from limiting their shared process, except in its number of open files.

    A node that cannot open a file for a moment recovers.
    """
    process = os.getpid()

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "resource.setrlimit" and os.getpid() == process:
            assert arguments[0] == resource.RLIMIT_NOFILE, "run this test `in_own_process`"

    sys.addaudithook(refuse)
