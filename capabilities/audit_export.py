"""Offline verification of an exported audit log (RC6).

No access is needed to the node that wrote the log.

The input is the export file and the node's DID:

    line                                  requirement
    ───────────────────────────────────── ─────────────────────────────────────────────────────
    {"type": "sealspace.audit-export/v1"} comes first; names the node, the store and the number
                                          of the entry that the export begins after
    {"type": "sealspace.audit-entry/v1"}  has the next number and the hash of the previous entry
    {"type": "sealspace.audit-head/v1"}   names this store and the previous entry; signed by the
                                          node; as second line it gives the hash that the first
                                          entry follows

Every line is canonical JSON. The last line is a head, because entries after the last head are not
covered by any signature.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta, Struct

from .capability_errors import AuditChainBroken, BadSignature, InvalidJson
from .principals import ed25519_public_key
from .signatures import verify_ed25519
from .strict_json import Json, JsonObject, Sha256Hex, parse_json, shaped

MAX_ENTRY_BYTES = 256 * 1024
"""Longest line that is read. An entry with four fully escaped texts, its detail in hex and the
content keys of a whole chain is shorter."""
HEAD_TYPE = "sealspace.audit-head/v1"
ENTRY_TYPE = "sealspace.audit-entry/v1"
EXPORT_TYPE = "sealspace.audit-export/v1"
_ENTRY_LABEL = b"sealspace/audit-entry/v1\0"
_GENESIS_LABEL = b"sealspace/audit-genesis/v1\0"


@dataclass
class VerifiedExport:
    """The result of verifying an exported audit log.

    It is updated after each line. `is_covered` is True if the last verified line is a signed head.
    """

    store_id: bytes = b""
    after: int = 0
    number: int = 0
    hash: bytes = b""
    heads: int = 0
    is_covered: bool = False


def canonical(members: Mapping[str, Json]) -> bytes:
    """Encode an object as canonical JSON (RC1).

    Its values have to be strings, integers or lists of strings.
    """
    return json.dumps(members, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def entry_hash(entry: bytes) -> bytes:
    """Return the SHA-256 hash of an audit entry (RC2).

    `entry` is the canonical JSON of the entry.
    """
    return hashlib.sha256(_ENTRY_LABEL + entry).digest()


def genesis_hash(store_id: bytes) -> bytes:
    """Return the first hash of a store's audit chain (RC3).

    The first audit entry cites this hash as that of its predecessor.
    """
    return hashlib.sha256(_GENESIS_LABEL + store_id).digest()


def verify_export(
    lines: Iterable[bytes], *, node_did: str, on_entry: Callable[[int, bytes], None] | None = None
) -> VerifiedExport:
    """Verify an exported audit log line by line.

    Args:
        lines: untrusted, of at most MAX_ENTRY_BYTES each.
        node_did: the node's DID, known from another source.
        on_entry: called with number and line of each entry; they count only when the whole export
            is valid.
    Raises:
        AuditChainBroken: with the number of the first invalid line, and the reason.
    Does not check:
        That the chain ended where the file does, nor the entries before a partial export. Compare
        with a head or a hash that was stored elsewhere.
    """
    public_key = ed25519_public_key(node_did)
    if public_key is None:
        raise AuditChainBroken(0, "the node's DID is not a did:key with an Ed25519 key")
    reader = _Reader(node_did, public_key, on_entry)
    line_number = 0
    for line_number, line in enumerate(lines, 1):  # the last number is reported below
        try:
            reader.read(line.removesuffix(b"\n"), is_first=line_number == 1)
        except (InvalidJson, ValueError) as exc:
            raise AuditChainBroken(line_number, str(exc)) from exc
    if not reader.export.is_covered:
        raise AuditChainBroken(
            line_number, "the export does not end with a head that the node signed"
        )
    return reader.export


_Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_StoreId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]


class _Opening(Struct):
    node: str
    store: _StoreId
    after: _Number


class _Entry(Struct):
    number: _Number
    previous: Sha256Hex


class _Head(Struct, rename="camel"):
    node: str
    store: _StoreId
    number: _Number
    hash: Sha256Hex
    at_micros: _Number
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]


@dataclass
class _Reader:
    """A line-by-line verifier of an exported audit log."""

    _node_did: str
    _public_key: bytes
    _on_entry: Callable[[int, bytes], None] | None
    export: VerifiedExport = field(default_factory=VerifiedExport)

    def read(self, line: bytes, *, is_first: bool) -> None:
        """Verify the next line of an exported audit log."""
        members = parse_json(line, max_bytes=MAX_ENTRY_BYTES)
        if canonical(members) != line:
            raise ValueError("the line is not canonical JSON")
        kind = members.get("type")
        if (kind == EXPORT_TYPE) != is_first:
            raise ValueError("the header line of the export is missing or repeated")
        if kind == EXPORT_TYPE:
            self._open(shaped(members, _Opening))
        elif kind == ENTRY_TYPE:
            self._entry(shaped(members, _Entry), line)
        elif kind == HEAD_TYPE:
            self._head(shaped(members, _Head), members)
        else:
            raise ValueError("unknown line type")

    def _open(self, opening: _Opening) -> None:
        """Read the header line of an export."""
        if opening.node != self._node_did:
            raise ValueError("the export was written by another node")
        store_id = bytes.fromhex(opening.store)
        # A partial export has no genesis: its second line, a head, gives the starting hash (RC28).
        starting_hash = b"" if opening.after else genesis_hash(store_id)
        self.export = VerifiedExport(
            store_id=store_id, after=opening.after, number=opening.after, hash=starting_hash
        )

    def _entry(self, entry: _Entry, line: bytes) -> None:
        """Verify the line of an audit entry."""
        export = self.export
        if entry.number != export.number + 1:
            raise ValueError(
                f"the line must contain entry {export.number + 1}, but contains entry"
                f" {entry.number}"
            )
        # The hash is empty only at the start of a partial export, before its first head.
        if export.hash and bytes.fromhex(entry.previous) != export.hash:
            raise ValueError("the entry does not contain the hash of the previous entry")
        export.number += 1
        export.hash = entry_hash(line)
        export.is_covered = False
        if self._on_entry is not None:
            self._on_entry(export.number, line)

    def _head(self, head: _Head, members: JsonObject) -> None:
        """Verify the line of a signed head."""
        export = self.export
        head_hash = bytes.fromhex(head.hash)
        if head.node != self._node_did or bytes.fromhex(head.store) != export.store_id:
            raise ValueError("the signed head of the export belongs to another node or store")
        # A partial export has no hash yet at its first head, which gives the hash (RC28).
        is_hash_expected = export.hash in (b"", head_hash)
        if head.number != export.number or not is_hash_expected:
            raise ValueError(
                f"the number or hash in the signed head does not match entry {export.number}"
            )
        signed = canonical({name: value for name, value in members.items() if name != "signature"})
        try:
            verify_ed25519(self._public_key, signed, bytes.fromhex(head.signature))
        except BadSignature as exc:
            raise ValueError("the signature of the signed head is invalid") from exc
        export.hash = head_hash
        export.heads += 1
        export.is_covered = True
