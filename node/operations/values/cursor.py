"""Where a page of a listing ended: opaque to its holder, bound to the caller and the call (wire §4.4.4).

base64url( last path in UTF-8 ‖ MAC32 ),  MAC = keyed BLAKE3 over the length-prefixed origin and the last path
"""

from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from blake3 import blake3

from capabilities.principals import Principal
from capabilities.strict_base64 import decode_url, encode_url
from encryption_network.keyring import Keyring

from ..errors import BadOption

MAX_CURSOR_CHARS: Final = 131_072
_CONTEXT: Final = "sealspace/kv/list-cursor"
_MAC_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Cursor:
    """The call that a cursor belongs to: its next page must be requested with the same words."""

    invoker: Principal
    space: str
    prefix: str
    limit: int | None


def encode_cursor(keyring: Keyring, origin: Cursor, last: str) -> str:
    """Return the cursor that continues strictly after `last`."""
    path = last.encode("utf-8", "surrogatepass")
    return encode_url(path + _mac(keyring, origin, path))


def parse_cursor(keyring: Keyring, text: str | None, origin: Cursor) -> str | None:
    """Return the path to continue after; None without a cursor.

    Raises:
        BadOption: not a cursor of this node, or of another call, or given without the limit that made it.
    """
    if text is None:
        return None
    if len(text) > MAX_CURSOR_CHARS or origin.limit is None:
        raise BadOption("Invalid KV list cursor")
    raw = decode_url(text)
    if raw is None:
        raise BadOption("Invalid KV list cursor")
    path, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    if len(mac) != _MAC_BYTES or not compare_digest(mac, _mac(keyring, origin, path)):
        raise BadOption("Invalid KV list cursor")
    last: str = path.decode("utf-8", "surrogatepass")
    return last


def _mac(keyring: Keyring, origin: Cursor, path: bytes) -> bytes:
    parts = [part.encode("utf-8", "surrogatepass") for part in (origin.invoker, origin.space, origin.prefix)]
    parts += [str(origin.limit).encode(), path]
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return blake3(framed, key=keyring.derive(_CONTEXT)).digest()
