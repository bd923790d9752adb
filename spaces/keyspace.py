"""The byte layout of all database keys.

Hashes have a fixed width, so no key exceeds an engine's limit.

`x16` is the first 16 bytes of the BLAKE3 of a canonical text. Integers are big-endian, so that byte
order is numeric order.

    key                             row
    ─────────────────────────────── ──────────────────────────────────────────────────────────────
    "m" name                        schema, identity (node DID, store id), number and check value of
                                    the root secret, release record, canary, lease of the
                                    housekeeping, stamp of the orphan sweep, the folder
                                    that a restored store was in, head of the audit chain, the
                                    operator's withdrawals, the location of bodies, how far the
                                    audit chain was exported and pruned, the positions of scans
    "G" content32                   delegation: header, closure, window
    "I" cid32                       → content32 (a cid is an alias, Q25)
    "L" content32                   revocation marker: live or revoked
    "S" space16                     a hosted space: its id and owner
    "s" owner16 space16             → the space's id, by owner
    "K" space16 path                row of a value, for paths of at most 400 bytes
    "K" space16 path[:400] 0xFF     index row: longer paths begin with these bytes; no value
    "k" space16 digest32 rest       row of a value with a longer path: `rest` is its last 1 to 400
                                    bytes; the digest is that of the key of the index row for all
                                    bytes before, whose number is a multiple of 400
    "k" space16 digest32 bytes400 0xFF
                                    index row for one segment more
    "w" space16 path16 number4 replaced8
                                    a former value of that path: the row of the value
    "u" due8 space16 path16         a deleted value, whose versions are removed at that time
    "P" principal16 role1 newest8 cid59
                                    → content32; role "f": the principal or an account above it
                                    signed it, "t": the principal received it
    "M" account16 member16 content16
                                    → content32; the member may list the account's delegations
    "X" space16 newest8 content16   → content32 expiry8; expiry 0xFF×8: never
    "E" expiry8 newest8 content16   → content32, to be swept
    "x" expiry8 content16           → content32; a machine token that the node made under a trust
                                    and that has not ended
    "N" network16                   encryption network: record and policy in one value
    "h" network16 hash32            the paths that stored the content key with this hash
    "A" did16 receiver32            attestation evidence
    "C" minute4 id16                durable replay record; its stamp is the idempotency key
    "B" space16 hash32              object: generation, references
    "Q" due8 id16                   work that is due
    "J" time8 random16              audit record that is not in the chain yet
    "j" number8                     audit record in the chain
    "y" number8                     signed head of the chain
    "R" network16 time8 random16    receipt of a release
    "F" network16 hour8 hash16      fetch of a copy by a reader in that hour, under its owner's
                                    network `default`
    "D" hash32                      document that receipts refer to, under its SHA-256
    "d" period4 hash32              that document was referred to in this span of 30 days
    "a" did16 receiver32            data needed to verify the evidence under the same "A" again
    "t" owner16 did16 content16     → content32; a session that the owner signed in person (IP2)
    "V" fmspc6 kind                 collateral
    "v" fmspc6 kind                 state of the fetches of that collateral
    "T" minute4 id16                ticket of a signed URL, under the minute of its expiry
    "H" space16                     number and histories of the last change of a value in a space,
                                    which only the engines write (ST24)
    "Z" space16 path                a deleted path, for paths of at most 400 bytes
    "z" space16 digest32 rest       the same for longer paths, under the rest of the value's key
    "f" space16                     the highest number of a deleted path whose row was removed
    "q" space16 path16              an SQL database: its path and its size
    "O" space16                     a space's own limit of bytes, set by the operator
    "o" owner16                     an owner whom the operator admitted
    "Y" owner16                     an owner for whom a successor was named, or who has moved
    "c" "U" space16                 counter: bytes of the values in a space
    "c" "N" space16                 counter: bytes of the paths and metadata in a space
    "c" "k" space16 writer16        counter: bytes of the rows "h" that one person, other than the
                                    owner, wrote in a space
    "c" "V" space16                 counter: bytes of the versions in a space
    "c" "H" owner16                 counter: spaces of an owner
    "c" "T"                         counter: all hosted spaces
    "c" "B"                         counter: bytes of values that are stored in files
    "c" "h" hour4 client16          counter: new owners from one client address in one hour
    "c" "D" signer16                counter: stored delegations of one signer
    "c" "G" signer16                counter: their bytes
    "c" "A" client16                counter: bytes of delegations that came from one client
                                    address, by signers who host a space here
    "c" "a" client16                counter: the same, by other signers
    "c" "x" trust16                 counter: the rows "x" of one trust; `trust16` begins its
                                    content key

Paths are UTF-8 and contain no 0xFF, so no value's key is equal to that of an index row. An index
row follows the path that ends there: the rows of a group are in the order of their paths, whatever
their length. `expiry8` is microseconds. `newest8` counts them down, so that later times come first
and a missing time last. `cid59` is the text of a cid; rows of equal times are in its order.
"""

from blake3 import blake3

from capabilities.cache import Results, memoize
from capabilities.frozen_struct import AcyclicStruct
from capabilities.resources import SpaceId

SCHEMA_VERSION = 4
UPGRADABLE_SCHEMAS = frozenset({2, 3})
"""Earlier schemas, whose stores can be read. A node serves them after an upgrade (ST21, ST23)."""
MAX_PLAIN_PATH_BYTES = 400
ROLE_FROM = b"f"
ROLE_TO = b"t"
NEVER8 = b"\xff" * 8
# Longer texts are not cached: unauthenticated clients could fill the memory with them.
_MEMOISED_CHARS = 512
_INDEX_SUFFIX = b"\xff"
VALUE_PREFIX_BYTES = 1 + 16
SPACE16_IN_KEY = slice(1, VALUE_PREFIX_BYTES)
"""The hash of the space in a key that consists of one letter, this hash, and more."""
_DIGEST_BYTES = 32

SCHEMA_KEY = b"mschema"
IDENTITY_KEY = b"midentity"
ROOT_SECRET_KEY = b"mroot-secret"  # a database key
RELEASE_RECORD_KEY = b"mrelease"
CANARY_KEY = b"mcanary"
REPLAY_FLOOR_KEY = b"mclaim-floor"
LEASE_KEY = b"mlease"
RESTORED_KEY = b"mrestored"
HOSTING_MODE_KEY = b"mhosting"
ORPHAN_SWEEP_KEY = b"morphan-sweep"
BODIES_PLACE_KEY = b"mbodies"
AUDIT_PREFIX = b"J"
AUDIT_CHAIN_KEY = b"mchain"
AUDIT_PRUNING_KEY = b"mchain-pruning"
WITHDRAWALS_KEY = b"mwithdrawals"
SEALED_PREFIX = b"j"
AUDIT_HEADS_PREFIX = b"y"
RECEIPTS_PREFIX = b"R"
FETCHES_PREFIX = b"F"
DOCUMENT_USES_PREFIX = b"d"
ALIASES_PREFIX = b"I"
EVIDENCE_PREFIX = b"A"
REPLAY_PREFIX = b"C"
VALUES_PREFIX = b"K"
LONG_VALUES_PREFIX = b"k"
VERSIONS_PREFIX = b"w"
VERSION_DUE_PREFIX = b"u"
OBJECTS_PREFIX = b"B"
DUE_PREFIX = b"Q"
EXPIRY_PREFIX = b"E"
EXCHANGED_PREFIX = b"x"
SPACES_PREFIX = b"S"
NETWORKS_PREFIX = b"N"
KEY_PLACES_PREFIX = b"h"
COLLATERAL_PREFIX = b"V"
COLLATERAL_STATE_PREFIX = b"v"
TICKETS_PREFIX = b"T"
DATABASES_PREFIX = b"q"
SEQUENCES_PREFIX = b"H"
DELETED_PREFIX = b"Z"
LONG_DELETED_PREFIX = b"z"
FEED_START_PREFIX = b"f"
OVERRIDES_PREFIX = b"O"
ADMISSIONS_PREFIX = b"o"
SUCCESSIONS_PREFIX = b"Y"
USAGE_PREFIX = b"cU"
ROWS_PREFIX = b"cN"
VERSION_BYTES_PREFIX = b"cV"


# Cached, because every request computes it several times for the same few spaces and principals.
@memoize(8192, longest=_MEMOISED_CHARS)
def x16(text: str) -> bytes:
    """Return the 16-byte BLAKE3 hash of a string.

    The string must be in canonical form.
    """
    return blake3(text.encode("utf-8", "surrogatepass")).digest(length=16)


def space_id16(space: SpaceId) -> bytes:
    """Return the hash that identifies a space in database keys."""
    return space_keys(space).space16


class SpaceKeys(AcyclicStruct):
    """The database keys for one space.

    Almost every request uses them.
    """

    space16: bytes
    row: bytes
    usage: bytes
    rows: bytes
    versions: bytes
    override: bytes
    sequence: bytes
    feed_start: bytes


def _lay_out_keys(space: SpaceId) -> SpaceKeys:
    space16 = x16(space.text)
    return SpaceKeys(
        space16=space16,
        row=space_key(space16),
        usage=usage_counter(space16),
        rows=rows_counter(space16),
        versions=VERSION_BYTES_PREFIX + space16,
        override=OVERRIDES_PREFIX + space16,
        sequence=SEQUENCES_PREFIX + space16,
        feed_start=FEED_START_PREFIX + space16,
    )


space_keys = Results(
    _lay_out_keys,
    most=8192,
    longest=_MEMOISED_CHARS,
    length=lambda space: len(space.name) + len(space.owner),
).__getitem__
"""Return the database keys for a space; those of short space ids are cached."""


def micros8(at: float | None, *, absent: bytes = b"\0" * 8) -> bytes:
    """Encode a time as 8 bytes that sort chronologically.

    The time is in epoch seconds and is encoded as microseconds, big-endian. None gives `absent`.
    Times out of range are clamped.
    """
    if at is None:
        return absent
    return min(max(int(at * 1_000_000), 0), (1 << 64) - 2).to_bytes(8, "big")


def newest8(at: float | None) -> bytes:
    """Encode a time as 8 bytes that sort in reverse chronological order.

    The time is in epoch seconds. None sorts last.
    """
    if at is None:
        return NEVER8
    return ((1 << 64) - 2 - int.from_bytes(micros8(at), "big")).to_bytes(8, "big")


def delegation_key(content: bytes) -> bytes:
    """Return the database key of a delegation.

    `content` is the delegation's content key, a 32-byte hash of its signer and content.
    """
    return b"G" + content


def alias_key(cid: bytes) -> bytes:
    """Return the key of the row that maps a CID to a delegation.

    The row maps the CID to the content key of the delegation.
    """
    return ALIASES_PREFIX + cid


def marker_key(content: bytes) -> bytes:
    """Return the database key of a delegation's revocation marker."""
    return b"L" + content


def space_key(space16: bytes) -> bytes:
    """Return the database key of a hosted space."""
    return SPACES_PREFIX + space16


def owned_space_key(owner16: bytes, space16: bytes = b"") -> bytes:
    """Return the database key that indexes a space by owner.

    Without the space, return the prefix of all spaces of the owner.
    """
    return b"s" + owner16 + space16


def value_key(space16: bytes, path: str) -> bytes:
    """Return the database key of a value.

    The path may have any length.
    """
    raw = path.encode("utf-8", "surrogatepass")
    if len(raw) <= MAX_PLAIN_PATH_BYTES:
        return VALUES_PREFIX + space16 + raw
    return path_keys(space16, raw)[-1]


def deleted_key(key: bytes) -> bytes:
    """Return the key of the row of a deleted path.

    `key` is the key of the row of its value.
    """
    prefix = DELETED_PREFIX if key[:1] == VALUES_PREFIX else LONG_DELETED_PREFIX
    return prefix + key[1:]


def last_segment(raw: bytes) -> int:
    """Return the byte offset of the last segment of a value's path.

    Paths are split into segments of 400 bytes. The last may be shorter.
    """
    return max(len(raw) - 1, 0) // MAX_PLAIN_PATH_BYTES * MAX_PLAIN_PATH_BYTES


def path_keys(space16: bytes, raw: bytes) -> list[bytes]:
    """Return the database keys of all rows for a value's path.

    The keys of the index rows come first, from the outermost, then the key of the value's row.
    """
    prefix = VALUES_PREFIX + space16
    keys: list[bytes] = []
    for start in range(0, last_segment(raw), MAX_PLAIN_PATH_BYTES):
        keys.append(prefix + raw[start : start + MAX_PLAIN_PATH_BYTES] + _INDEX_SUFFIX)
        prefix = group_below(keys[-1])
    return [*keys, prefix + raw[last_segment(raw) :]]


def index_row_key(space16: bytes, beginning: bytes) -> bytes:
    """Return the database key of the index row that leads to a path group.

    `beginning` is what all paths of the group begin with: one or more whole segments. The index row
    has the key of a value with this path, and a suffix.
    """
    *_, key = path_keys(space16, beginning)
    return key + _INDEX_SUFFIX


def group_of(key: bytes) -> bytes:
    """Return a row's key without the path segment at its end.

    All rows of a path group have this prefix. `key` is the key of any row in the group. A group
    contains the paths that begin with the same segments and have one segment more, and the index
    rows among them.
    """
    if key[:1] == VALUES_PREFIX:
        return key[:VALUE_PREFIX_BYTES]
    return key[: VALUE_PREFIX_BYTES + _DIGEST_BYTES]


def group_below(key: bytes) -> bytes:
    """Return the key prefix of the longer paths grouped under an index row.

    The rows of these paths form a path group. `key` is the key of the index row.
    """
    return LONG_VALUES_PREFIX + key[1:VALUE_PREFIX_BYTES] + blake3(key).digest()


def is_index_row(key: bytes) -> bool:
    """Return whether a key belongs to an index row.

    The key has the prefix "K" or "k". Other such keys belong to values.
    """
    return len(key) > VALUE_PREFIX_BYTES and key[-1:] == _INDEX_SUFFIX


def versions_prefix(space16: bytes, path: str) -> bytes:
    """Return the key prefix of the versions of a path.

    The number of the version follows, in 4 bytes, and the time of its replacement (`micros8`).
    """
    return VERSIONS_PREFIX + space16 + x16(path)


def party_key(principal16: bytes, role: bytes, place: bytes = b"") -> bytes:
    """Return the database key that indexes a delegation by signer or receiver.

    `place` is `newest8` of the time of issue, then the text of the cid. Without it, return the
    prefix of all delegations that the principal signed (ROLE_FROM) or received (ROLE_TO), latest
    first.
    """
    return b"P" + principal16 + role + place


def member_key(account16: bytes, member16: bytes, content: bytes = b"") -> bytes:
    """Return the database key that indexes a member of an account.

    The member may list the account's delegations. The row points to the delegation that grants this
    permission. Without `content`, return the prefix of all such rows.
    """
    return b"M" + account16 + member16 + content[:16]


def space_grant_key(space16: bytes, registered8: bytes = b"", content: bytes = b"") -> bytes:
    """Return the database key that indexes a delegation by space.

    `registered8` is `newest8` of its registration. Without both arguments, return the prefix of all
    delegations under the space, latest registered first.
    """
    return b"X" + space16 + registered8 + content[:16]


def expiry_key(expiry8: bytes, registered8: bytes, content: bytes) -> bytes:
    """Return the database key that indexes a delegation by expiry.

    Keys sort by expiry. Among equal expiries, the latest registration comes first. Delegations
    registered together are then stored together, if their tokens have one lifetime.
    """
    return EXPIRY_PREFIX + expiry8 + registered8 + content[:16]


def exchanged_key(expiry8: bytes, content: bytes) -> bytes:
    """Return the database key of a machine token that the node made under a trust.

    Keys sort by expiry.
    """
    return EXCHANGED_PREFIX + expiry8 + content[:16]


def network_key(network16: bytes) -> bytes:
    """Return the database key of an encryption network."""
    return NETWORKS_PREFIX + network16


def key_places_key(network16: bytes, digest: bytes) -> bytes:
    """Return the database key of the row with the paths that stored a content key.

    `digest` is the 32-byte hash of the content key.
    """
    return KEY_PLACES_PREFIX + network16 + digest


def evidence_key(did16: bytes, receiver32: bytes = b"") -> bytes:
    """Return the database key of attestation evidence.

    The evidence belongs to a DID and a receiver key. Without the receiver key, return the prefix of
    all evidence of the DID.
    """
    return EVIDENCE_PREFIX + did16 + receiver32


def replay_minute4(expires_at: int) -> bytes:
    """Encode an expiry time as minutes since the epoch.

    The result has 4 bytes.
    """
    return (expires_at // 60).to_bytes(4, "big")


def acceptance_delay_s(floor: bytes, now: float) -> float:
    """Return the remaining seconds in which some valid tokens are refused.

    0.0 means that all valid tokens are accepted. `floor` begins with a minute. All tokens that
    expire before that minute are refused, because replay records of earlier minutes were deleted.
    `now` is in epoch seconds.
    """
    return max(60 * int.from_bytes(floor[:4], "big") - now, 0.0)


def replay_key(minute4: bytes, id16: bytes) -> bytes:
    """Return the database key of a durable replay record."""
    return REPLAY_PREFIX + minute4 + id16


def object_key(space16: bytes, digest32: bytes) -> bytes:
    """Return the database key of a large value's record.

    The value itself is too large for a row and is stored as an object.
    """
    return OBJECTS_PREFIX + space16 + digest32


def due_key(due_at: float, id16: bytes) -> bytes:
    """Return the database key of a garbage-collection task.

    Keys sort by due time.
    """
    return DUE_PREFIX + micros8(due_at) + id16


def audit_key(at: float, random16: bytes) -> bytes:
    """Return the database key of a new audit record.

    The record is not in the hash chain yet.
    """
    return AUDIT_PREFIX + micros8(at) + random16


def sealed_key(number: int) -> bytes:
    """Return the database key of an entry in the audit chain."""
    return SEALED_PREFIX + number.to_bytes(8, "big")


def audit_head_key(number: int) -> bytes:
    """Return the database key of a signed checkpoint of the audit log.

    The checkpoint covers the entries up to `number`.
    """
    return AUDIT_HEADS_PREFIX + number.to_bytes(8, "big")


def receipt_key(network16: bytes, place24: bytes = b"") -> bytes:
    """Return the database key of a key-release receipt.

    `place24` is the receipt's sort key: the time in 8 bytes, then 16 random bytes. Without it,
    return the prefix of all receipts of the network.
    """
    return RECEIPTS_PREFIX + network16 + place24


def fetch_key(network16: bytes, place24: bytes = b"") -> bytes:
    """Return the database key of the fetch of a copy.

    `place24` is the fetch's sort key: the start of the hour in 8 bytes, then a hash of 16 bytes.
    Without it, return the prefix of all fetches that are listed with the network.
    """
    return FETCHES_PREFIX + network16 + place24


def document_key(sha256: bytes) -> bytes:
    """Return the database key of the document with the given SHA-256."""
    return b"D" + sha256


def document_use_key(period: int, sha256: bytes) -> bytes:
    """Return the key of the row that records a receipt's reference to a document.

    There is one row for each document and period of 30 days. A document is used when a key-release
    receipt refers to it. `period` is the number of the period since the epoch.
    """
    return DOCUMENT_USES_PREFIX + period.to_bytes(4, "big") + sha256


def walk_key(name: str) -> bytes:
    """Return the key of the row that stores a database scan's position."""
    return b"mwalk-" + name.encode("ascii")


def evidence_inputs_key(evidence_row_key: bytes) -> bytes:
    """Return the key of the row with the inputs for verifying evidence.

    The row contains the quote, the nonce and the event log, so that the evidence can be verified
    again. `evidence_row_key` is the key of the evidence itself.
    """
    return b"a" + evidence_row_key[1:]


def session_key(owner16: bytes, did16: bytes, content: bytes = b"") -> bytes:
    """Return the database key that indexes a session by owner.

    The owner signed the session. Without the content key, return the prefix of all sessions that
    the DID received from the owner.
    """
    return b"t" + owner16 + did16 + content[:16]


def collateral_key(fmspc6: bytes, kind: str) -> bytes:
    """Return the database key of a platform's attestation collateral."""
    return COLLATERAL_PREFIX + fmspc6 + kind.encode("ascii")


def collateral_state_key(fmspc6: bytes, kind: str) -> bytes:
    """Return the key of the row that tracks collateral downloads.

    There is one row for each platform family and kind of collateral.
    """
    return COLLATERAL_STATE_PREFIX + fmspc6 + kind.encode("ascii")


def ticket_key(minute4: bytes, id16: bytes) -> bytes:
    """Return the database key of the ticket for a signed URL."""
    return TICKETS_PREFIX + minute4 + id16


def usage_counter(space16: bytes) -> bytes:
    """Return the key of the counter for a space's total value size.

    Paths and metadata are counted separately (`rows_counter`).
    """
    return USAGE_PREFIX + space16


def rows_counter(space16: bytes) -> bytes:
    """Return the key of the counter of metadata bytes in a space.

    Paths are included. The values themselves are counted separately (`usage_counter`).
    """
    return ROWS_PREFIX + space16


def key_rows_counter(space16: bytes, writer16: bytes = b"") -> bytes:
    """Return the key of the counter for rows of content keys that somebody wrote in a space.

    It counts bytes. Those that the owner wrote are in `rows_counter`. Without a writer, return the
    prefix of the counters of all writers.
    """
    return b"ck" + space16 + writer16


def delegations_counter(signer16: bytes) -> bytes:
    """Return the key of the counter for a signer's delegations."""
    return b"cD" + signer16


def delegation_bytes_counter(signer16: bytes) -> bytes:
    """Return the key of the counter for the size of a signer's delegations."""
    return b"cG" + signer16


def exchanged_counter(trust: bytes) -> bytes:
    """Return the key of the counter for the machine tokens that were made under a trust.

    `trust` is the content key of the trust.
    """
    return b"cx" + trust[:16]


def client_bytes_counter(client16: bytes, *, hosts: bool) -> bytes:
    """Return the key of the byte counter for a client's delegations.

    The client is a network address. The size is in bytes. Signers who host a space here and those
    who do not have separate counters.
    """
    return (b"cA" if hosts else b"ca") + client16


def owner_counter(owner16: bytes) -> bytes:
    """Return the key of the counter for an owner's spaces."""
    return b"cH" + owner16


TOTAL_SPACES_COUNTER = b"cT"
BODIES_COUNTER = b"cB"


def newcomers_counter(hour: int, client16: bytes) -> bytes:
    """Return the key of the counter for new owners of spaces.

    It counts the owners who came from one client address in one hour. `hour` counts the hours since
    the epoch.
    """
    return b"ch" + hour.to_bytes(4, "big") + client16
