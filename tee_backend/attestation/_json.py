"""Strict JSON objects, with the errors of this package."""

from capabilities.errors import InvalidJson
from capabilities.strict_json import Json, parse_json

from .errors import AttestationError


def read_object(data: bytes, *, max_bytes: int, error: type[AttestationError], what: str) -> dict[str, Json]:
    """Parse one JSON object; raises `error` with `what` in its detail."""
    try:
        return parse_json(data, max_bytes=max_bytes)
    except InvalidJson as exc:
        raise error(f"{what}: {exc}") from exc
