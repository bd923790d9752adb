"""Signed receipts of program runs (RN70 to RN74).

At startup, a runner makes a receipt key inside the trust domain. The startup document contains a
quote that names this key, the runner's DID, its manifest and its compose file. Each run, also a
failed one, ends in a receipt that this key signs.

The startup document:

    {"type": "sealspace.runner.start/v1", "statement": {"did", "manifest", "compose"},
     "receiptKey": did:key, "quote": base64, "eventLog": array or null}

A receipt, as a signed statement `sealspace.run.receipt/v1`:

    {"job", "program": sha256, "project": text or null, "status": "completed" | "failed",
     "code": text or null, "inputHash", "outputHash": base64url of SHA-256(salt ‖ bytes),
     "variablesHash": base64url, "secrets": "none" | "delivered",
     "storage": "none" | "written" | "unknown", "hosts": [], "limits": {…},
     "build"?: origin of the program, "buildVerifiedBy"?: "runner", "task"?: true,
     "instructions", "timeMs", "nonce": text or null, "runner": DID,
     "start": base64url of the SHA-256 of the startup document, "at": RFC 3339}

The hashes of input and output are salted, and only the caller gets the salt. So other readers of a
receipt cannot find an input by trying candidates.

Example:
    verified = await verify_run(receipt, start, inspector, now=receipt_time)
    assert verified.is_about(salt=salt, input=body, output=answer)
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.frozen import frozen
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import Principal, ed25519_public_key
from capabilities.signatures import Ed25519Signer
from capabilities.siwe import parse_rfc3339
from capabilities.strict_base64 import decode_standard, decode_url, encode_standard, encode_url
from capabilities.strict_json import Json, JsonObject, StrictStruct, parse_json, shaped
from encryption_network.canonical_json import canonical_bytes
from sealspace.apps.backends import Verified
from sealspace.documents.builds import Build
from sealspace.documents.published import MAX_PUBLISHED_BYTES, Published, parse_statement
from sealspace.documents.signed_statements import read_statement, sign_statement
from sealspace.errors import BackendAnswerInvalid, StatementInvalid
from tee_backend.attestation.report_data import runner_binding

from ..guest.runs import StorageState

if TYPE_CHECKING:  # a runner itself needs no verifier of quotes
    from tee_backend.attestation.inspection import Inspector

START_TYPE = "sealspace.runner.start/v1"
RECEIPT_TYPE = "sealspace.run.receipt/v1"
SALT_BYTES = 32


@frozen(kw_only=True)
class Start(Published):
    """A runner's startup document, parsed but not verified; its nonce is empty.

    The quote covers the statement and the key with which the runner signs receipts.
    """

    receipt_key: Principal
    sha256: bytes


class RunFacts(FrozenStruct, kw_only=True, rename="camel", omit_defaults=True):
    """The contents of a receipt for a program run.

    `program` is a SHA-256 in hexadecimal digits. All other hashes are in base64url. `task` is only
    in the receipt of a task. Without it, a run whose program prints the document about a result
    would have the same receipt as a task (TK9). `build` is the label of each grant that a secret of
    the run was read by (RN244). `build_verified_by` is stated if the runner verified it for each
    of these grants (PV22).
    """

    job: str
    program: str
    project: str | None
    code: str | None
    input_hash: str
    output_hash: str
    variables_hash: str
    secrets: Literal["none", "delivered"]
    storage: StorageState
    hosts: list[str]
    limits: dict[str, int]
    instructions: int
    time_ms: int
    nonce: str | None
    at: str
    task: bool = False
    build: Build | None = None
    build_verified_by: Literal["runner"] | None = None


# A runner writes `task` and the build only in some receipts, and former releases wrote neither
# `storage` nor `build` (RN206, RN244, TK9).
_OPTIONAL_MEMBERS = frozenset({"storage", "task", "build", "buildVerifiedBy"})
_MEMBERS = frozenset({*RunFacts.__struct_encode_fields__, "status", "runner", "start"})


@frozen
class VerifiedRun:
    """A verified receipt, with the runner's verified attestation.

    `build` is the origin of the program as the owners of the secrets verified it (RN244).
    """

    stated: JsonObject
    start: Start
    runner: Verified
    build: Build | None

    def is_about(self, *, salt: bytes, input: bytes | None, output: bytes) -> bool:
        """Return whether the receipt matches the given input and output (RN74).

        An input that is not known is not compared.

        A salt of another length is refused: bytes could be moved between the salt and the data
        without changing the hash.
        """
        return len(salt) == SALT_BYTES and all(
            data is None or self.stated[name] == encode_url(salted(salt, data))
            for name, data in (("inputHash", input), ("outputHash", output))
        )


def salted(salt: bytes, data: bytes | memoryview) -> bytes:
    """Return the salted SHA-256 hash of the data."""
    hashed = hashlib.sha256(salt)
    hashed.update(data)
    return hashed.digest()


def names_hash(names: Iterable[str]) -> str:
    """Return the SHA-256 hash of a list of names.

    The sorted names are hashed as canonical JSON. The hash is in base64url.
    """
    return encode_url(hashlib.sha256(canonical_bytes([*sorted(names)])).digest())


class _StartDocument(StrictStruct, rename="camel", tag_field="type", tag=START_TYPE):
    statement: Any
    receipt_key: str
    quote: str
    event_log: list[Any] | None


def encode_start(
    statement: JsonObject, receipt_key: str, quote: bytes, event_log: list[Json] | None
) -> bytes:
    """Encode a runner's startup document as canonical JSON."""
    document = _StartDocument(
        statement=statement,
        receipt_key=receipt_key,
        quote=encode_standard(quote),
        event_log=event_log,
    )
    return canonical_bytes(msgspec.to_builtins(document))


def parse_start(data: bytes) -> Start:
    """Parse the untrusted startup document of a runner.

    Raises:
        StatementInvalid: it is malformed. Whether the quote is genuine and covers the key is not
            verified here.
    """
    try:
        document = shaped(parse_json(data, max_bytes=MAX_PUBLISHED_BYTES), _StartDocument)
        statement = parse_statement(document.statement)
    except (InvalidJson, BackendAnswerInvalid) as exc:
        raise StatementInvalid("the runner's startup document cannot be read") from exc
    quote = decode_standard(document.quote)
    if not quote:
        raise StatementInvalid("the runner's startup document has no quote")
    if ed25519_public_key(document.receipt_key) is None:
        raise StatementInvalid("the runner's receipt key is not an Ed25519 key")
    return Start(
        nonce=b"",  # the document is made at the start, so it answers no client's nonce
        statement=statement,
        receipt_key=Principal(document.receipt_key),
        quote=quote,
        event_log=document.event_log,
        sha256=hashlib.sha256(data).digest(),
    )


def sign_receipt(facts: RunFacts, *, runner: str, start: str, key: Ed25519Signer) -> bytes:
    """Return the signed receipt of a program run (RN72)."""
    stated: JsonObject = msgspec.to_builtins(facts)
    stated |= {
        "status": "completed" if facts.code is None else "failed",
        "runner": runner,
        "start": start,
    }
    return sign_statement(RECEIPT_TYPE, stated, key)


async def verify_run(
    receipt: bytes,
    start: bytes,
    inspector: "Inspector",
    *,
    kind: str = RECEIPT_TYPE,
    members: frozenset[str] = _MEMBERS,
) -> VerifiedRun:
    """Verify the receipt of a program run (RN73), or another signed statement of a runner.

    The quote is verified for the time stated in the receipt.

    Args:
        receipt: the receipt, untrusted.
        start: the runner's startup document, untrusted.
        inspector: verifier of quotes, with collateral that was valid at that time.
        kind: type of the statement.
        members: names of the statement's members.
    Returns:
        The verified receipt, with the runner's measurements.
    Raises:
        StatementInvalid: the receipt or the document is invalid, or they do not belong together.
        BackendNotProven, CollateralNeeded: the quote is not valid.
    Does not check:
        Whether the code is trusted: compare its measurements with the approved ones.
        Whether the time is correct: the runner states it.
    """
    read = parse_start(start)
    stated = read_statement(receipt, kind, signer=read.receipt_key)
    has_members = members - _OPTIONAL_MEMBERS <= stated.keys() <= members
    if not has_members or stated["runner"] != read.statement.did:
        raise StatementInvalid(
            "the receipt has missing or unknown members, or is for another runner"
        )
    if decode_url(stated["start"]) != read.sha256:
        raise StatementInvalid(
            "the receipt and the startup document are from different starts of the runner"
        )
    try:
        now = parse_rfc3339(str(stated["at"]))
        build = shaped(stated["build"], Build) if "build" in stated else None
    except CapabilityError as exc:
        raise StatementInvalid("the receipt's time or origin is not valid") from exc
    public_key = (
        ed25519_public_key(read.receipt_key) or b""
    )  # `parse_start` requires that it is one
    binding = runner_binding(read.statement.did, public_key, read.statement.sha256)
    verified = await inspector.verify_bound(
        read.quote, binding, event_log=read.event_log, compose=read.statement.compose, now=now
    )
    return VerifiedRun(stated=stated, start=read, runner=verified, build=build)
