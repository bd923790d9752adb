"""Structured logs on standard error.

A log line is a JSON object, without tokens, secrets or values.

Each line consists of named fields chosen in the code. Text from a request never becomes a field,
except a method, a status and ids. An exception is logged as its class, number and source locations,
because its message may quote request data. Messages of libraries are logged as templates without
arguments for the same reason: aiohttp, for example, quotes the first hundred bytes of an over-long
header, which may be a credential.

Writing a line needs only memory, no import and no file, so it works when a process has run out of
file descriptors.
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from traceback import walk_tb
from typing import TextIO

from sealspace import printable

Field = str | int | float | bool | list[str] | None

_FRAMES = 12
_LEVELS = logging.getLevelNamesMapping()
_FIELDS = "sealspace_fields"  # attribute of our log records that contains the named fields


def configure_logs(level: str, *, is_json: bool = False, stream: TextIO | None = None) -> None:
    """Set up the log with the given level.

    Lines from libraries are written only at level warning or above.

    Args:
        is_json: whether messages to the operator are JSON too, as log lines always are.
    """
    if is_json:
        printable.format_message = _json_message
    _lines.stream = stream
    number = _LEVELS[level.upper()]
    _events.setLevel(number)
    root = logging.getLogger()
    if _lines not in root.handlers:
        root.addHandler(_lines)
    # the root logger is that of libraries
    root.setLevel(max(number, logging.WARNING))


def log_event(event: str, **fields: Field) -> None:
    """Write one log line at level info.

    `event` is a stable name in kebab case.
    """
    _log(logging.INFO, event, fields)


def log_warning(event: str, **fields: Field) -> None:
    """Write one log line at level warning."""
    _log(logging.WARNING, event, fields)


def tell_operator(sentence: str, *, level: str = "info") -> None:
    """Print a message on standard error.

    The message is dropped if standard error is closed.
    """
    with suppress(OSError):
        print(printable.format_message(sentence, level=level), file=sys.stderr, flush=True)


def _json_message(*lines: str, level: str = "info") -> str:
    """Return a message to the operator as a JSON log line."""
    record = _events.makeRecord(
        name="",
        level=_LEVELS[level.upper()],
        fn="",
        lno=0,
        msg="message",
        args=(),
        exc_info=None,
        extra={_FIELDS: {"text": "; ".join(lines)}},
    )
    return _lines.format(record)


def log_failure(request_id: str, method: str, error: BaseException) -> None:
    """Log a request that failed with an internal error.

    The error's class, number and source locations are logged, but not its message.
    """
    _log(
        logging.ERROR,
        "request-failed",
        {"request_id": request_id, "method": method, **describe(error)},
    )


def describe(error: BaseException) -> dict[str, str | int | list[str]]:
    """Return the class and the source locations of an error, and the class of its cause.

    The innermost location is last. The cause, or an error without one, has a number if it comes
    from the system or from LMDB. Messages are left out.
    """
    # Not `traceback.extract_tb`: it reads the source files, which fails without free descriptors.
    frames = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)][-_FRAMES:]
    places = [
        f"{code.co_filename.rpartition('/')[2]}:{line} {code.co_name}" for code, line in frames
    ]
    described: dict[str, str | int | list[str]] = {"error": _class_of(error), "places": places}
    cause = error.__cause__ or error
    if cause is not error:
        described["cause"] = _class_of(cause)
    # Errors of the system have `errno`, those of LMDB `code`. A `code` of our own errors is a text.
    number = getattr(cause, "errno", getattr(cause, "code", None))
    if isinstance(number, int):
        described["number"] = number
    return described


def _class_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _of_library(record: logging.LogRecord) -> dict[str, Field]:
    """Return the fields of a library's log record."""
    template = "message left out"
    if isinstance(record.msg, str) and record.args:  # without arguments, it may be a whole message
        template = record.msg
    fields: dict[str, Field] = {"logger": record.name, "template": template}
    if record.exc_info and record.exc_info[1] is not None:
        fields.update(describe(record.exc_info[1]))
    return fields


class _LineHandler(logging.Handler):
    """A log handler that writes whole lines.

    Several processes share standard error.
    """

    stream: TextIO | None = None  # None: standard error, whatever it is when a line is written

    def format(self, record: logging.LogRecord) -> str:
        """Return a log record as JSON.

        The node's own record has its fields. A library's has only its message template.
        """
        fields: Mapping[str, Field] | None = getattr(record, _FIELDS, None)
        event: dict[str, Field]
        if fields is None:
            event = {"event": "library", **_of_library(record)}
        else:
            event = {"event": record.msg, **fields}
        written_at = datetime.fromtimestamp(record.created, tz=UTC).isoformat(
            timespec="microseconds"
        )
        frame = {"level": record.levelname.lower(), "timestamp": written_at.replace("+00:00", "Z")}
        return json.dumps(event | frame)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one log record."""
        stream: TextIO | None = self.stream or sys.stderr
        if stream is None:  # a process that was started with standard error closed
            return
        with suppress(OSError, ValueError):  # a closed pipe must not fail the request
            stream.write(self.format(record) + "\n")
            stream.flush()


def _log(level: int, event: str, fields: Mapping[str, Field]) -> None:
    if _events.isEnabledFor(level):
        _events.log(level, event, extra={_FIELDS: fields})


_lines = _LineHandler()
_events = logging.getLogger("sealspace")
_events.propagate = False  # a program that embeds a node keeps its own handlers for its own lines
_events.setLevel(logging.INFO)
_events.addHandler(_lines)
