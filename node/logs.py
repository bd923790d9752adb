"""Logs: one JSON object a line on standard error, without tokens, secrets or values.

A line is made of named fields that the code chose. Text from a request never becomes a field, except a method, a status
and ids; an exception is logged as its class and the places it passed, because its message may quote what a caller sent.
Messages of libraries keep their template and lose their arguments for the same reason: aiohttp puts the first hundred
bytes of an over-long header, which is a credential, into a message.

Example:
    configure_logs("info")
    log_event("worker-ready", workers=2)
"""

import logging
import sys
import traceback
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_FRAMES = 12
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _State:
    """What `configure_logs` set; module state, because logging is one for the process."""

    level: int = logging.INFO
    stream: TextIO | None = None  # None: standard error, whatever it is when a line is written


def configure_logs(level: str, *, stream: TextIO | None = None) -> None:
    """Write from now on lines of this level and above, library messages included.

    Args:
        level: debug, info, warning or error.
        stream: where to; standard error by default.
    """
    _State.level = _LEVELS[level]
    _State.stream = stream
    _logger.cache_clear()
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, LibraryLines)]:
        root.removeHandler(handler)
    root.addHandler(LibraryLines())
    root.setLevel(max(_State.level, logging.WARNING))  # libraries speak up from warnings on


def log_event(event: str, **fields: str | int | float | bool | list[str] | None) -> None:
    """Write one line at level info; `event` is a stable name in kebab case."""
    if _State.level <= logging.INFO:
        _logger().info(event, **fields)


def log_warning(event: str, **fields: str | int | float | bool | list[str] | None) -> None:
    """Write one line at level warning."""
    if _State.level <= logging.WARNING:
        _logger().warning(event, **fields)


def log_failure(request_id: str, method: str, error: BaseException) -> None:
    """Write one line about a fault of ours in a request: its class and the places it passed, not its message."""
    _logger().error("request-failed", request_id=request_id, method=method, **describe(error))


def describe(error: BaseException) -> dict[str, str | list[str]]:
    """Return the class of an error and the places it passed, innermost last, without any value."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": f"{type(error).__module__}.{type(error).__qualname__}", "places": places}


class LibraryLines(logging.Handler):
    """Writes what libraries log in our form: the template of the message, never its arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        fields: dict[str, str | list[str]] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields |= describe(record.exc_info[1])
        template = record.msg if isinstance(record.msg, str) and record.args else "message left out"
        _logger().log(record.levelno, "library", template=template, **fields)


class _Lines:
    """Writes each line whole, so that lines of several processes do not mix; a broken pipe loses the line."""

    def msg(self, line: str) -> None:
        """Write one line."""
        stream = _State.stream or sys.stderr
        with suppress(OSError, ValueError):
            stream.write(line + "\n")
            stream.flush()

    debug = info = warning = error = critical = msg


@cache
def _logger() -> "FilteringBoundLogger":
    import structlog  # a tenth of a second of imports: paid by the first line, not by the start

    return structlog.wrap_logger(  # type: ignore[no-any-return]  # structlog wraps anything
        _Lines(),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_State.level),
    )
