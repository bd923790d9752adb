"""A subprocess that reads a store whose pages may be damaged (BK9).

Example:
    finding = run_in_subprocess(_check_in_subprocess, config, True)
"""

import importlib
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from types import GenericAlias
from typing import ParamSpec, TypeVar, get_type_hints

import msgspec

from sealspace.service.command_errors import NodeError, StoreMisused
from spaces.space_errors import RecordDamaged, SpaceError

from ..config.loading import child_environment
from ..processes.launch import StartRefusal, end_with_parent, own_program

_MAX_TASK_BYTES = 16 << 20
_MAX_ANSWER_BYTES = 32 << 20
_REFUSED = 3
"""Exit status of a subprocess that answers with an expected error."""
_SIGNALS_OF_DAMAGED_PAGES = frozenset(
    {signal.SIGBUS, signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE}
)

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer", bound=msgspec.Struct)


def run_in_subprocess(
    do: Callable[Arguments, Answer], *task: Arguments.args, **_: Arguments.kwargs
) -> Answer:
    """Call a function in a subprocess (BK9).

    A damaged LMDB file can crash the process that reads it: access to damaged pages can end the
    process by a signal. The subprocess imports modules from where this process does, never from the
    current folder. It reads its task from standard input and writes its answer to standard output,
    each as one JSON document. It ends when this process ends.

    Args:
        do: A function at the top level of a module, whose arguments and result have types that
            msgspec encodes as JSON.
        task: Its positional arguments. They may contain secrets, so they are passed neither as
            process arguments nor in the environment.

    Returns:
        The function's return value.

    Raises:
        RecordDamaged: The subprocess was ended by a signal that damaged pages cause.
        StoreMisused: The task raised an error, whose code is preserved; or the subprocess was ended
            by something else.
    """
    with subprocess.Popen(  # noqa: S603  # our own interpreter with our own code
        own_program(
            "from node.cli.store_subprocess import do_task; do_task(*sys.argv[1:])",
            do.__module__,
            do.__name__,
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
        process_group=0,  # Ctrl-C reaches only this process, which then kills the subprocess
    ) as process:
        assert process.stdin is not None and process.stdout is not None  # PIPE
        try:
            with suppress(BrokenPipeError):  # it has already ended; its status is read below
                process.stdin.write(msgspec.json.encode(task) + b"\n")
                process.stdin.flush()
            data = process.stdout.read(_MAX_ANSWER_BYTES + 1)
            # After too long an answer do not wait: the subprocess may be blocked, writing the rest.
            status = process.wait() if len(data) <= _MAX_ANSWER_BYTES else 1
        finally:
            process.kill()
    signal_number = -status  # `Popen` gives a negative status to a process that a signal ended
    if signal_number in _SIGNALS_OF_DAMAGED_PAGES:
        name = signal.Signals(signal_number).name
        raise RecordDamaged(
            f"the process that read the store crashed with {name}: the store's file was truncated"
            " or overwritten"
        )
    if status == _REFUSED:
        refusal = msgspec.json.decode(data, type=StartRefusal)
        raise StoreMisused(refusal.text, hint=refusal.hint, code=refusal.code)
    if status != 0:
        ending = signal.Signals(signal_number).name if signal_number > 0 else "an error"
        raise StoreMisused(
            f"the process that read the store was terminated by {ending}",
            hint="run the command again",
        )
    answer: Answer = msgspec.json.decode(data, type=get_type_hints(do)["return"])
    return answer


def do_task(module: str, name: str) -> None:
    """Call a function with arguments from standard input, print its result, and end the process.

    This is what the subprocess of `run_in_subprocess` does. An expected error is printed in place
    of the result, with the exit status `_REFUSED`.

    Args:
        module: full name of the function's module.
        name: name of the function.
    """
    do = getattr(importlib.import_module(module), name)
    *argument_types, _return_type = get_type_hints(do).values()
    task = msgspec.json.decode(
        sys.stdin.buffer.readline(_MAX_TASK_BYTES), type=GenericAlias(tuple, tuple(argument_types))
    )
    end_with_parent()  # it reads standard input, so the task has to be read first
    status = _REFUSED
    try:
        reply: object = do(*task)
        status = 0
    except NodeError as error:
        reply = StartRefusal(code=error.code, text=error.message, hint=error.hint)
    except SpaceError as error:
        reply = StartRefusal(code=error.code, text=str(error), hint="")
    sys.stdout.buffer.write(msgspec.json.encode(reply))
    sys.stdout.buffer.flush()
    sys.exit(status)


def handle_signals_like_ctrl_c() -> None:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP.

    The command then cleans up, as after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Below `nohup`, SIGHUP stays ignored.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
