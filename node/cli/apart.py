"""Reading an LMDB file that may be damaged: in a process of its own, which such pages can end by a signal (BK9).

The process imports from where this one does, never from the current directory. It reads its task from its standard
input and writes its answer to its standard output, both one document of JSON; when this process ends, so does it.

Example:
    def check(config: Config) -> Checked: ...
    checked = done_apart(check, config)
"""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import GenericAlias
from typing import Final, ParamSpec, TypeVar, get_type_hints

import msgspec

from sealspace.cli.errors import NodeError, StoreMisused
from spaces.errors import RecordDamaged, SpaceError

from ..config.loading import child_environment
from ..processes.launch import StartRefusal, end_with_parent, own_program

_MAX_TASK_BYTES: Final = 16 << 20
_MAX_ANSWER_BYTES: Final = 32 << 20
_REFUSED: Final = 3
"""Status of a process that answers with one of our errors."""
_OF_DAMAGED_PAGES: Final = frozenset({signal.SIGBUS, signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE})

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer", bound=msgspec.Struct)


def done_apart(do: Callable[Arguments, Answer], *task: Arguments.args, **_: Arguments.kwargs) -> Answer:
    """Call a function in a process of its own.

    Args:
        do: of a module of ours.
        task: its arguments, by position; they may contain secrets: they are neither in the process's arguments nor in
            its environment.

    Raises:
        RecordDamaged: the process was ended by a signal that damaged pages cause.
        StoreMisused: what the task raised, with its code; or the process was ended by something else.
    """
    code = "from node.cli.apart import do_task; do_task(*sys.argv[1:])"
    with subprocess.Popen(  # noqa: S603  # our own interpreter with our own code
        own_program(code, do.__module__, do.__name__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
        process_group=0,  # a Ctrl-C reaches the command alone, which ends this process
    ) as process:
        assert process.stdin is not None and process.stdout is not None  # PIPE
        try:
            with suppress(BrokenPipeError):  # it ended meanwhile, as its status says
                process.stdin.write(msgspec.json.encode(task) + b"\n")
                process.stdin.flush()
            data = process.stdout.read(_MAX_ANSWER_BYTES + 1)
            status = process.wait() if len(data) <= _MAX_ANSWER_BYTES else 1
        finally:
            process.kill()
    if -status in _OF_DAMAGED_PAGES:
        name = signal.Signals(-status).name
        raise RecordDamaged(f"reading it ended the process ({name}): it was cut short or overwritten")
    if status == _REFUSED:
        refusal = msgspec.json.decode(data, type=StartRefusal)
        raise StoreMisused(refusal.text, hint=refusal.hint, code=refusal.code)
    if status:
        ending = signal.Signals(-status).name if status < 0 else "an error"
        raise StoreMisused(f"the process that reads the store was ended by {ending}", hint="start the command again")
    answer: Answer = msgspec.json.decode(data, type=get_type_hints(do)["return"])
    return answer


def do_task(module: str, name: str) -> None:
    """Do the task that `done_apart` gave to this process; our errors are answered too."""
    do = getattr(import_module(module), name)
    *kinds, _ = get_type_hints(do).values()
    task = msgspec.json.decode(sys.stdin.buffer.readline(_MAX_TASK_BYTES), type=GenericAlias(tuple, tuple(kinds)))
    end_with_parent()
    status = _REFUSED
    try:
        reply: object = do(*task)
        status = 0
    except NodeError as error:
        reply = StartRefusal(error.code, error.message, error.hint)
    except SpaceError as error:
        reply = StartRefusal(error.code, str(error), "")
    sys.stdout.buffer.write(msgspec.json.encode(reply))
    sys.stdout.buffer.flush()
    sys.exit(status)


def end_as_by_ctrl_c() -> None:
    """Make SIGTERM and SIGHUP end this process as Ctrl-C does; SIGHUP stays ignored where it was, below `nohup`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
