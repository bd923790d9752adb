"""CPU time of commands that run as processes of their own.

Everything of a process counts: the start of Python, the imports, the command and the end. A Python
that does nothing is measured beside them.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from started_servers import own_node

_REPOSITORY = Path(__file__).resolve().parents[2]
_SEALSPACE = ("-P", "-m", "sealspace")
PROCESSES: Mapping[str, Sequence[str]] = {
    "python": ("-c", "pass"),
    "--help": (*_SEALSPACE, "--help"),
    "secret get": (*_SEALSPACE, "secret", "get", "API_KEY"),
    "secret list": (*_SEALSPACE, "secret", "list"),
    "run": (*_SEALSPACE, "run", "--", "true"),
}


def command_figures(rounds: int) -> dict[str, float]:
    """Measure each process once a round, in turns, against a node that is started for it."""
    taken_s: dict[str, list[float]] = {name: [] for name in PROCESSES}
    with tempfile.TemporaryDirectory(prefix="sealspace-bench-") as name:
        folder = Path(name)
        with own_node(folder / "data", "--attestation", "off") as (url, _):
            environment = _environment(folder)
            _cpu_s([*_SEALSPACE, "login", url, "--new"], environment)
            _cpu_s([*_SEALSPACE, "secret", "put", "API_KEY"], environment, given=b"open sesame")
            for arguments in PROCESSES.values():
                _cpu_s(arguments, environment)  # compiles modules that were not compiled yet
            for _round in range(rounds):
                for command, arguments in PROCESSES.items():
                    taken_s[command].append(_cpu_s(arguments, environment))
    figures: dict[str, float] = {}
    for command, times_s in taken_s.items():
        figures[f"{command}: CPU ms, least"] = min(times_s) * 1e3
        figures[f"{command}: CPU ms, median"] = statistics.median(times_s) * 1e3
    return figures


def _environment(folder: Path) -> dict[str, str]:
    """Return the variables of a command that has its owner's folder here, and compiled modules."""
    inherited = {
        name: text for name, text in os.environ.items() if not name.startswith("SEALSPACE_")
    }
    return inherited | {
        "PYTHONPATH": str(_REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "",
        "SEALSPACE_HOME": str(folder / "home"),
    }


def _cpu_s(
    arguments: Sequence[str], environment: Mapping[str, str], *, given: bytes = b""
) -> float:
    """Run a process, and return the user and system time of it and its children, seconds."""
    with tempfile.TemporaryFile() as data:
        data.write(given)
        data.seek(0)
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=data,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=tempfile.gettempdir(),
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return used.ru_utime + used.ru_stime
