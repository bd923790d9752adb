"""Verifying an exported audit chain without the node that wrote it: a file, and the node's DID (RC6).

    line                                 has to
    ──────────────────────────────────── ────────────────────────────────────────────────────────────────────────────
    {"type": "sealspace.audit-export/v1"} come first, and name node, store and the entry to begin after
    {"type": "sealspace.audit-entry/v1"}  have the next number and the hash of the entry before
    {"type": "sealspace.audit-head/v1"}   name this store and the entry before, and be signed by the node; as the second
                                          line it states what the first entry follows from

Every line is canonical JSON, and the last one is a head: no signature vouches for what no head covers.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from .errors import AuditChainBroken, BadSignature, InvalidJson
from .principals import ed25519_public_key
from .signatures import verify_ed25519
from .strict_json import Json, parse_json

MAX_ENTRY_BYTES: Final = 256 * 1024
"""Four texts with every character escaped, the detail in hex, and the marks of a whole chain take less."""
HEAD_TYPE: Final = "sealspace.audit-head/v1"
ENTRY_TYPE: Final = "sealspace.audit-entry/v1"
EXPORT_TYPE: Final = "sealspace.audit-export/v1"
_ENTRY_LABEL: Final = b"sealspace/audit-entry/v1\0"
_GENESIS_LABEL: Final = b"sealspace/audit-genesis/v1\0"
_STORE_ID_BYTES: Final = 16
_HASH_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class VerifiedExport:
    """The extent of an export; every line of it is covered by a head that the node signed."""

    store_id: bytes
    after: int
    number: int
    hash: bytes
    heads: int
    last_at: float


def canonical(members: Mapping[str, Json]) -> bytes:
    """Return the one JSON text of an object: those of a chain have texts, whole numbers and lists of texts (RC1)."""
    return json.dumps(members, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def entry_hash(entry: bytes) -> bytes:
    """Return the hash of an entry, over its canonical text."""
    return hashlib.sha256(_ENTRY_LABEL + entry).digest()


def genesis_hash(store_id: bytes) -> bytes:
    """Return the hash before the first entry of a store's chain (RC3)."""
    return hashlib.sha256(_GENESIS_LABEL + store_id).digest()


def verify_export(
    lines: Iterable[bytes], *, node_did: str, on_entry: Callable[[int, bytes], None] | None = None
) -> VerifiedExport:
    """Verify an export line by line.

    Args:
        lines: untrusted, of at most MAX_ENTRY_BYTES each.
        node_did: the node's DID, known from another source.
        on_entry: called with number and line of each entry; they count only when the whole export is valid.
    Raises:
        AuditChainBroken: with the number of the first line that is not what it has to be, and why.
    Does not check:
        That the chain ended where the file does, and, for a part, what came before: compare with a head or a hash that
        was kept elsewhere.
    """
    public_key = ed25519_public_key(node_did)
    if public_key is None:
        raise AuditChainBroken(0, "the node's DID is no did:key of an Ed25519 key")
    reader = _Reader(node_did, public_key, on_entry)
    line_number = 0
    for line_number, line in enumerate(lines, 1):  # the last number is reported below
        reader.read(line_number, line)
    return reader.finish(line_number)


class _Reader:
    """The state of reading one export."""

    def __init__(self, node_did: str, public_key: bytes, on_entry: Callable[[int, bytes], None] | None) -> None:
        self._node_did = node_did
        self._on_entry = on_entry
        self._public_key = public_key
        self._store_id = b""
        self._after = self._number = self._heads = 0
        self._hash: bytes | None = None
        self._is_covered = False
        self._last_at = 0.0

    def read(self, line_number: int, line: bytes) -> None:
        """Read the next line."""
        text = line.removesuffix(b"\n")
        try:
            members = parse_json(text, max_bytes=MAX_ENTRY_BYTES)
            is_canonical = canonical(members) == text
        except (InvalidJson, ValueError) as exc:
            raise AuditChainBroken(line_number, "it is no JSON object") from exc
        if not is_canonical:
            raise AuditChainBroken(line_number, "it is not canonical JSON")
        kind = members.get("type")
        if (kind == EXPORT_TYPE) != (line_number == 1):
            raise AuditChainBroken(line_number, "an export begins with one line that says what it is")
        try:
            if kind == EXPORT_TYPE:
                if members.get("node") != self._node_did:
                    raise _Wrong("it is another node's")
                self._store_id = _bytes(members, "store", _STORE_ID_BYTES)
                self._after = self._number = _whole(members, "after")
                self._hash = genesis_hash(self._store_id) if self._after == 0 else None
            elif kind == ENTRY_TYPE:
                self._entry(members, text)
            elif kind == HEAD_TYPE:
                self._head(members)
            else:
                raise _Wrong("it is of no known type")
        except _Wrong as exc:
            raise AuditChainBroken(line_number, str(exc)) from exc

    def finish(self, line_number: int) -> VerifiedExport:
        """Return what was read, when a head covers all of it."""
        if not self._is_covered or self._hash is None:
            raise AuditChainBroken(line_number, "the export does not end with a head that the node signed")
        return VerifiedExport(self._store_id, self._after, self._number, self._hash, self._heads, self._last_at)

    def _entry(self, members: dict[str, Json], text: bytes) -> None:
        if _whole(members, "number") != self._number + 1:
            raise _Wrong(f"entry {self._number + 1} is due")
        previous = _bytes(members, "previous", _HASH_BYTES)
        if self._hash is not None and previous != self._hash:
            raise _Wrong("it does not follow from the entry before")
        self._number += 1
        self._hash = entry_hash(text)
        self._is_covered = False
        if self._on_entry is not None:
            self._on_entry(self._number, text)

    def _head(self, members: dict[str, Json]) -> None:
        signature = _bytes(members, "signature", _SIGNATURE_BYTES)
        if members.get("node") != self._node_did or _bytes(members, "store", _STORE_ID_BYTES) != self._store_id:
            raise _Wrong("the head is of another node or store")
        head_hash = _bytes(members, "hash", _HASH_BYTES)
        if _whole(members, "number") != self._number or self._hash not in (None, head_hash):
            raise _Wrong("the head is over another entry")
        signed = canonical({name: value for name, value in members.items() if name != "signature"})
        try:
            verify_ed25519(self._public_key, signed, signature)
        except BadSignature as exc:
            raise _Wrong("the head's signature does not hold") from exc
        self._hash = head_hash  # in a part: what its first entry has to follow (RC28)
        self._heads += 1
        self._is_covered = True
        self._last_at = _whole(members, "atMicros") / 1_000_000


class _Wrong(Exception):
    """Why a line is not what it has to be."""


def _whole(members: dict[str, Json], name: str) -> int:
    value = members.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise _Wrong(f"{name} is not a whole number")
    return value


def _bytes(members: dict[str, Json], name: str, size_bytes: int) -> bytes:
    text = members.get(name)
    try:
        data = bytes.fromhex(text) if isinstance(text, str) and len(text) == 2 * size_bytes else b""
    except ValueError:
        data = b""
    if len(data) != size_bytes or data.hex() != text:
        raise _Wrong(f"{name} is not {2 * size_bytes} lower-case hex digits")
    return data
