"""Receipts of runs: one quote of the runner's start, and a signature for each run, prove what ran
(RN70 to RN74).

At its start a runner makes a receipt key inside the trust domain, and one quote names that key, the
runner's DID, its manifest and its compose file: the start document. Each run, a failed one too,
ends in a receipt that this key signs.

    {"type": "sealspace.runner.start/v1", "statement": {"did", "manifest", "compose"}, "receiptKey": did:key,
     "quote": base64, "eventLog": array or null}

    a signed statement `sealspace.run.receipt/v1` of the receipt key:
    {"job", "program": sha256, "project": text or null, "status": "completed" | "failed", "code": text or null,
     "inputHash", "outputHash": base64url of SHA-256(salt ‖ bytes), "variablesHash": base64url, "secrets": "none" |
     "delivered", "hosts": [], "limits": {…}, "instructions", "timeMs", "nonce": text or null, "runner": DID,
     "start": base64url of the SHA-256 of the start document, "at": RFC 3339}

Input and output are named by salted hashes, whose salt the caller gets: whoever sees a receipt
cannot try inputs out.

Example:
    verified = await verify_run(receipt, start, inspector, now=receipt_time)
    assert verified.is_about(salt=salt, input=body, output=answer)
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.principals import Principal, ed25519_public_key
from capabilities.signatures import Ed25519Signer
from capabilities.siwe import parse_rfc3339
from capabilities.strict_base64 import decode_standard, decode_url, encode_standard, encode_url
from capabilities.strict_json import Json, parse_json, shaped
from encryption_network.canonical_json import canonical_bytes
from sealspace.apps.backends import Verified
from sealspace.documents.published import MAX_PUBLISHED_BYTES, Statement, parse_statement
from sealspace.documents.signed_statements import read_statement, sign_statement
from sealspace.errors import BackendAnswerInvalid, StatementInvalid

from ...attestation.report_data import runner_binding

if TYPE_CHECKING:  # a runner itself needs no verifier of quotes
    from ...attestation.inspection import Inspector

START_TYPE: Final = "sealspace.runner.start/v1"
RECEIPT_TYPE: Final = "sealspace.run.receipt/v1"
SALT_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A runner's start, read and not verified; made by `parse_start`."""

    statement: Statement
    receipt_key: Principal
    quote: bytes = field(repr=False)
    event_log: list[Json] | None = field(repr=False)
    sha256: bytes


class RunFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a receipt says of a run, but for who says it; hashes are in base64url."""

    job: str
    program: str
    project: str | None
    code: str | None
    input_hash: str
    output_hash: str
    variables_hash: str
    secrets: Literal["none", "delivered"]
    hosts: list[str]
    limits: dict[str, int]
    instructions: int
    time_ms: int
    nonce: str | None
    at: str


_MEMBERS: Final = frozenset({*RunFacts.__struct_encode_fields__, "status", "runner", "start"})


@dataclass(frozen=True, slots=True)
class VerifiedRun:
    """A receipt that holds, with what its runner proved of itself."""

    stated: dict[str, Json]
    start: Start
    runner: Verified

    def is_about(self, *, salt: bytes, input: bytes, output: bytes) -> bool:
        """Return whether the receipt is about these bytes (RN74).

        A salt of another length is refused: its end could be the beginning of what was hashed.
        """
        expected = [encode_url(salted(salt, data)) for data in (input, output)]
        return (
            len(salt) == SALT_BYTES
            and [self.stated["inputHash"], self.stated["outputHash"]] == expected
        )


def salted(salt: bytes, data: bytes | memoryview) -> bytes:
    """Return SHA-256(salt ‖ data)."""
    hashed = hashlib.sha256(salt)
    hashed.update(data)
    return hashed.digest()


def names_hash(names: Iterable[str]) -> str:
    """Return the hash of the names of variables: SHA-256 of the sorted list as canonical JSON, in
    base64url."""
    return encode_url(hashlib.sha256(canonical_bytes([*sorted(names)])).digest())


class _StartDocument(
    msgspec.Struct, forbid_unknown_fields=True, rename="camel", tag_field="type", tag=START_TYPE
):
    statement: Any
    receipt_key: str
    quote: str
    event_log: list[Any] | None


def encode_start(
    statement: dict[str, Json], receipt_key: str, quote: bytes, event_log: list[Json] | None
) -> bytes:
    """Write the start document."""
    document = _StartDocument(statement, receipt_key, encode_standard(quote), event_log)
    return canonical_bytes(msgspec.to_builtins(document))


def parse_start(data: bytes) -> Start:
    """Read a start document, untrusted."""
    try:
        document = shaped(parse_json(data, max_bytes=MAX_PUBLISHED_BYTES), _StartDocument)
        statement = parse_statement(document.statement)
    except (InvalidJson, BackendAnswerInvalid) as exc:
        raise StatementInvalid("the start of the runner cannot be read") from exc
    quote, key = decode_standard(document.quote), document.receipt_key
    if not quote:
        raise StatementInvalid("the start of the runner has no quote")
    if ed25519_public_key(key) is None:
        raise StatementInvalid("the runner's receipt key is no Ed25519 key")
    return Start(
        statement=statement,
        receipt_key=Principal(key),
        quote=quote,
        event_log=document.event_log,
        sha256=hashlib.sha256(data).digest(),
    )


def sign_receipt(facts: RunFacts, *, runner: str, start: str, key: Ed25519Signer) -> bytes:
    """Return the receipt of a run (RN72)."""
    stated: dict[str, Json] = msgspec.to_builtins(facts)
    stated |= {
        "status": "completed" if facts.code is None else "failed",
        "runner": runner,
        "start": start,
    }
    return sign_statement(RECEIPT_TYPE, stated, key)


async def verify_run(receipt: bytes, start: bytes, inspector: "Inspector") -> VerifiedRun:
    """Judge a receipt, as of its own time (RN73).

    Args:
        receipt: untrusted.
        start: the runner's start document, untrusted.
        inspector: with collateral that was valid then.
    Raises:
        StatementInvalid: the receipt or the document does not hold, or one is not about the other.
        BackendNotProven, CollateralNeeded: the quote does not hold.
    Does not check:
        Whether that code is to be trusted: compare the measurements in the result with those that
            were approved.
        Whether the time is true: it is the runner's.
    """
    return await verify_signed(receipt, start, inspector, kind=RECEIPT_TYPE, members=_MEMBERS)


async def verify_signed(
    receipt: bytes, start: bytes, inspector: "Inspector", *, kind: str, members: frozenset[str]
) -> VerifiedRun:
    """Judge what a runner states with its receipt key, of whatever type; as `verify_run`."""
    read = parse_start(start)
    stated = read_statement(receipt, kind, signer=read.receipt_key)
    if stated.keys() != members or stated["runner"] != read.statement.did:
        raise StatementInvalid("the receipt has not its members, or is of another runner")
    if decode_url(stated["start"]) != read.sha256:
        raise StatementInvalid("the receipt is of another start of the runner")
    try:
        now = parse_rfc3339(str(stated["at"]))
    except CapabilityError as exc:
        raise StatementInvalid("the time of the receipt is none") from exc
    binding = runner_binding(
        read.statement.did, ed25519_public_key(read.receipt_key) or b"", read.statement.sha256
    )
    verified = await inspector.verify_bound(
        read.quote, binding, event_log=read.event_log, compose=read.statement.compose, now=now
    )
    return VerifiedRun(stated, read, verified)
