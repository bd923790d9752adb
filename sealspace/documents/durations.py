"""Duration texts as app manifests write them: a number and an optional unit ("30d", "1.5h", "2 days", "60")."""

import re

from ..errors import ManifestInvalid

_MAX_TEXT_CHARS = 100
_SECOND = 1_000.0
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_WEEK = 7 * _DAY
_YEAR = 365.25 * _DAY

_UNITS_MS: dict[str, float] = {
    **dict.fromkeys(("", "milliseconds", "millisecond", "msecs", "msec", "ms"), 1.0),
    **dict.fromkeys(("seconds", "second", "secs", "sec", "s"), _SECOND),
    **dict.fromkeys(("minutes", "minute", "mins", "min", "m"), _MINUTE),
    **dict.fromkeys(("hours", "hour", "hrs", "hr", "h"), _HOUR),
    **dict.fromkeys(("days", "day", "d"), _DAY),
    **dict.fromkeys(("weeks", "week", "w"), _WEEK),
    **dict.fromkeys(("years", "year", "yrs", "yr", "y"), _YEAR),
}
_DURATION = re.compile(r"(?P<number>-?\d*\.?\d+) *(?P<unit>[a-z]*)", re.ASCII)


def parse_duration_ms(text: str) -> int:
    """Read a duration in whole milliseconds, more than 0; raises ManifestInvalid."""
    if not text:
        raise ManifestInvalid('Manifest validation failed: expiry must be a non-empty duration string (got "")')
    match = _DURATION.fullmatch(text.lower()) if len(text) <= _MAX_TEXT_CHARS else None
    unit_ms = None if match is None else _UNITS_MS.get(match["unit"])
    if match is None or unit_ms is None:
        raise _invalid(text)
    value_ms = float(match["number"]) * unit_ms
    if not 1 <= value_ms < 2**53:
        raise _invalid(text)
    return int(value_ms)


def _invalid(text: str) -> ManifestInvalid:
    return ManifestInvalid(f'Manifest validation failed: invalid expiry duration: "{text[:_MAX_TEXT_CHARS]}"')
