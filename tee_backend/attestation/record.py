"""Records of attestations, which anyone can judge again.

A folder keeps a quote with all that is needed to judge it:

| file | contents | protected by |
|---|---|---|
| `quote.bin` | the quote, whole | Intel's signatures, under the root that the reader trusts |
| `collateral.json` | the collateral | the same |
| `event-log.json` | the event log, if there is one | the quote, for registers with entries |
| `record.json` | time, report data, facts about the machine, verdict, hashes | its own hash |

A changed byte of any file is noticed by its hash. Whoever makes a record can also make its hashes.
So nothing in `record.json` is proven, except what `judge_record` computes again from the other
files: the verdict. `NOT_COVERED` lists what a forger could change.

Example:
    write_record(folder, Recorded(quote=quote, collateral=document, …), root=intel_root())
    replayed = replay_record(folder, root=intel_root(), now=clock.now())
    assert replayed.is_reproduced

Source: spec/attestation.md AT68 to AT70.
"""

import hashlib
import json
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, to_builtins

from capabilities.capability_errors import InvalidJson
from capabilities.clock_and_entropy import time_text
from capabilities.frozen import frozen
from capabilities.principals import parse_principal
from capabilities.strict_json import Json, JsonObject, Sha256Hex, StrictStruct, parse_json, shaped
from encryption_network.canonical_json import canonical_bytes
from encryption_network.judgement import judge
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS
from encryption_network.network_errors import InvalidCanonicalJson
from encryption_network.policy import REGISTERS, Evidence, Policy
from sealspace.errors import SealspaceError
from sealspace.printable import printable
from sealspace.private_files import file_fault, make_file, read_foreign

from .attestation_errors import AttestationError, QuoteRefused
from .collateral import MAX_COLLATERAL_BYTES, parse_collateral
from .event_log import MAX_LOG_BYTES, EventLog, parse_event_log
from .event_log_claims import EventLogClaims, check_key_provider, verify_event_log
from .examine import BoundQuote, examine
from .quote import MAX_QUOTE_BYTES, Quote, parse_quote
from .report_data import Binding, check_report_data
from .trust_root import TrustRoot

RECORD_TYPE = "sealspace.attestation-record/v1"
RECORD_FILE = "record.json"
QUOTE_FILE = "quote.bin"
COLLATERAL_FILE = "collateral.json"
LOG_FILE = "event-log.json"
MAX_RECORD_BYTES = 64 * 1024
MAX_FACTS = 32
_MAX_FACT_CHARS = 512
_LIMITS = {
    QUOTE_FILE: MAX_QUOTE_BYTES,
    COLLATERAL_FILE: MAX_COLLATERAL_BYTES,
    LOG_FILE: MAX_LOG_BYTES,
}

NOT_COVERED = (
    "the time of the record, within the validity of the collateral",
    "the facts about the machine in record.json",
    "names, types and payloads of event log entries of registers 0 to 2: only their digests count",
    "the collateral's spaces between members, and a certificate that a mirror put beside the list",
    "the case of hex digits in the collateral, and line breaks in its certificates",
)
"""What whoever makes a record, and its hashes, could change without being noticed."""

# Evidence names a holder; a record has none.
_HOLDER = parse_principal("did:web:record.invalid")


class RecordInvalid(SealspaceError):
    """The record of an attestation is incomplete or was changed.

    Attributes:
        file: name of the file that is wrong.
    """

    code = "record-invalid"

    def __init__(self, message: str, *, file: str) -> None:
        super().__init__(
            message, hint="get the record again from where it was made; do not rely on this one"
        )
        self.file = file


@frozen(kw_only=True)
class Recorded:
    """A quote and what belongs to it, before it is written to a folder.

    Attributes:
        quote: the quote as the platform made it.
        collateral: the collateral that the verifier chose.
        event_log: the whole log, or None.
        report_data: 64 bytes that the recorder asked for; None: as the quote states them.
        at: epoch seconds.
        facts: unproven statements about the machine and the source of the quote.
    """

    quote: bytes = field(repr=False)
    collateral: bytes = field(repr=False)
    event_log: EventLog | None = field(repr=False)
    report_data: bytes | None
    at: float
    facts: dict[str, str]


class Replayed(NamedTuple):
    """A record that was judged again.

    Attributes:
        at: epoch seconds of the record.
        recorded: the verdict in the record.
        then: the verdict for that time, computed here.
        now: the verdict for the present.
        facts: unproven statements in the record.
        identifying: parts of the record that identify the machine.
    """

    at: float
    recorded: JsonObject
    then: JsonObject
    now: JsonObject
    facts: dict[str, str]
    identifying: dict[str, str]

    @property
    def is_reproduced(self) -> bool:
        """Whether the verdict for the record's time is the recorded one."""
        return self.recorded == self.then


# --- the verdict ----------------------------------------------------------------------------------


def judge_record(
    quote: bytes,
    collateral: bytes,
    event_log: bytes | None,
    *,
    report_data: bytes | None,
    root: TrustRoot,
    now: float,
) -> JsonObject:
    """Judge a quote at a time, and return the result of each check.

    Args:
        quote: untrusted.
        collateral: untrusted; its signatures are checked.
        event_log: JSON text; untrusted.
        report_data: the report data that the quote has to contain; None: not compared.
        root: the trusted root.
        now: epoch seconds.
    Returns:
        JSON with the result of each check, "ok" or its code, and the facts of a quote that passed.
        The member `accepted` is whether a node would release a key for a policy that names exactly
        this code.
    """
    checks: dict[str, Json] = {}
    facts: JsonObject = {}
    try:
        parsed_quote = parse_quote(quote)
    except AttestationError as error:
        return {"accepted": False, "checks": {"quote": error.code}, "facts": facts}
    claims, checks["eventLog"] = _judge_log(event_log, parsed_quote)
    checks["reportData"] = _judge_report_data(parsed_quote, report_data)
    checks["keyProvider"] = _judge_key_provider(claims)
    # A record is not bound to a holder, so the report data is taken as the quote has it.
    binding = Binding(report_data=parsed_quote.report.report_data, holder=_HOLDER)
    bound_quote = BoundQuote(quote=parsed_quote, binding=binding, claims=claims)
    try:
        document = parse_collateral(collateral)
        evidence = examine(bound_quote, document, root=root, now=now)
    except AttestationError as error:
        checks["quote"] = error.code
    else:
        checks["quote"] = "ok"
        policy_for_this_code = Policy(measurements=(evidence.measurements,))
        checks["policy"] = judge(evidence, policy_for_this_code, now) or "ok"
        facts = _evidence_facts(evidence)
    # A quote that is refused has no result for the policy.
    is_complete = checks.keys() == _CHECK_NAMES
    is_accepted = is_complete and all(result == "ok" for result in checks.values())
    return {"accepted": is_accepted, "checks": checks, "facts": facts}


_CHECK_NAMES = frozenset({"eventLog", "reportData", "keyProvider", "quote", "policy"})


def _judge_log(event_log: bytes | None, quote: Quote) -> tuple[EventLogClaims | None, str]:
    """Return what a log states, and "ok" or the code of its refusal.

    Without a log, or if it is refused, nothing is stated.
    """
    if event_log is None:
        return None, "ok"
    try:
        claims = verify_event_log(parse_event_log(event_log), quote.report)
    except QuoteRefused as error:
        return None, error.code
    return claims, "ok"


def _judge_report_data(quote: Quote, expected: bytes | None) -> str:
    """Return "ok", also if nothing is expected, or the code of the refusal."""
    if expected is None:
        return "ok"
    try:
        check_report_data(quote.report.report_data, expected)
    except QuoteRefused as error:
        return error.code
    return "ok"


def _judge_key_provider(claims: EventLogClaims | None) -> str:
    """Return "ok" or the code of the refusal; a quote without a log names no provider."""
    key_provider = None if claims is None else claims.key_provider
    try:
        check_key_provider(key_provider, DEFAULT_KEY_PROVIDERS)
    except QuoteRefused as error:
        return error.code
    return "ok"


def _evidence_facts(evidence: Evidence) -> JsonObject:
    """Return the facts of a verified quote as JSON."""
    return {
        **{name: getattr(evidence, name).hex() for name in REGISTERS},
        "mrConfigId": evidence.mr_config_id.hex(),
        "tdAttributes": evidence.td_attributes.hex(),
        "xfam": evidence.xfam.hex(),
        "tcbSvn": evidence.tee_tcb_svn.hex(),
        "tcbStatus": evidence.tcb_status,
        "tcbDate": time_text(evidence.tcb_date),
        "advisories": list(evidence.advisories),
        "evaluationNumber": evidence.evaluation_number,
        "platformFamily": evidence.fmspc.hex(),
        "rootSha256": evidence.root_ca_sha256.hex(),
        "statementSha256": evidence.quote_sha256.hex(),
        "composeHash": None if evidence.compose_hash is None else evidence.compose_hash.hex(),
        "appId": None if evidence.app_id is None else evidence.app_id.hex(),
        "keyProvider": evidence.key_provider,
    }


# --- what identifies a machine --------------------------------------------------------------------

_QE_ID = slice(28, 44)
"""The place of the quoting enclave's id in a quote: user data of the header."""


def identifying_parts(quote: Quote, event_log: EventLog | None) -> dict[str, str]:
    """Return what in a quote and its log identifies the machine or the instance (AT69).

    A quote is signed as a whole, so none of it can be removed.

    Returns:
        Name of the part, for a person, to its value in hex.
    """
    platform_certificate = quote.pck_chain[0]
    parts = {
        "platform id (PPID), the same for years": quote.platform.ppid.hex(),
        "platform certificate (SHA-256)": hashlib.sha256(platform_certificate.der).hexdigest(),
        "platform family (FMSPC), shared by many machines": quote.platform.fmspc.hex(),
    }
    if quote.platform.instance_id is not None:
        parts["platform instance id (PIID)"] = quote.platform.instance_id.hex()
    qe_id = quote.signed_bytes[_QE_ID]
    if any(qe_id):
        parts["id of the quoting enclave"] = qe_id.hex()
    if event_log is not None:
        for event in event_log.entries:
            if event.name == "instance-id" and event.payload_hex:
                parts["instance id in the event log"] = event.payload_hex
    return parts


# --- the folder -----------------------------------------------------------------------------------


_Fact = Annotated[str, Meta(max_length=_MAX_FACT_CHARS)]


class _Record(StrictStruct):
    type: str
    at: Annotated[int, Meta(ge=0, lt=2**40)]
    report_data: Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{128})?\Z")]
    facts: Annotated[dict[str, _Fact], Meta(max_length=MAX_FACTS)]
    verdict: dict[str, Any]
    files: dict[str, Sha256Hex]
    seal: Sha256Hex


def write_record(folder: Path, recorded: Recorded, *, root: TrustRoot) -> JsonObject:
    """Judge a quote, and write it with its verdict to a new folder.

    Args:
        folder: made here.
        recorded: the quote and what belongs to it.
        root: the trusted root, whose hash is in the verdict.
    Returns:
        The verdict. A refused quote is recorded too: the reason can then be found elsewhere.
    Raises:
        OSError: the folder exists, or cannot be written.
        QuoteRefused: the bytes are not a quote. Then no folder is made.
    """
    parse_quote(recorded.quote)  # raises QuoteRefused
    at = int(recorded.at)
    files = {QUOTE_FILE: recorded.quote, COLLATERAL_FILE: recorded.collateral}
    if recorded.event_log is not None:
        entries = to_builtins(recorded.event_log.entries)
        files[LOG_FILE] = json.dumps(entries, separators=(",", ":")).encode()
    verdict = judge_record(
        recorded.quote,
        recorded.collateral,
        files.get(LOG_FILE),
        report_data=recorded.report_data,
        root=root,
        now=at,
    )
    members: JsonObject = {
        "type": RECORD_TYPE,
        "at": at,
        "report_data": "" if recorded.report_data is None else recorded.report_data.hex(),
        "facts": {**recorded.facts},
        "verdict": verdict,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    folder.mkdir(mode=0o700)
    for name, data in files.items():
        make_file(folder / name, data)
    make_file(folder / RECORD_FILE, sealed_record(members))
    return verdict


def sealed_record(members: JsonObject) -> bytes:
    """Return the contents of `record.json` with the hash over its other members."""
    seal = hashlib.sha256(canonical_bytes(members)).hexdigest()
    return canonical_bytes({**members, "seal": seal})


def replay_record(
    folder: Path, *, root: TrustRoot, now: float, collateral: bytes | None = None
) -> Replayed:
    """Judge a record again, for its time and for the present (AT68).

    Args:
        folder: untrusted.
        root: the root that the reader trusts.
        now: epoch seconds.
        collateral: newer collateral for the present; None: that of the record.
    Raises:
        RecordInvalid: a file is missing, too long, malformed, or has another hash.
    """
    record = _read_record(folder)
    files: dict[str, bytes] = {}
    for name in record.files:
        files[name] = _read_file(folder, name, _LIMITS[name])
    for name, recorded_hash in record.files.items():
        if hashlib.sha256(files[name]).hexdigest() != recorded_hash:
            raise RecordInvalid(f"{name} was changed: it has another hash", file=name)
    quote = files[QUOTE_FILE]
    recorded_collateral = files[COLLATERAL_FILE]
    event_log = files.get(LOG_FILE)
    report_data = bytes.fromhex(record.report_data) or None  # an empty text: not compared
    verdict_then = judge_record(
        quote,
        recorded_collateral,
        event_log,
        report_data=report_data,
        root=root,
        now=record.at,
    )
    verdict_now = judge_record(
        quote,
        collateral or recorded_collateral,
        event_log,
        report_data=report_data,
        root=root,
        now=now,
    )
    return Replayed(
        at=record.at,
        recorded=record.verdict,
        then=verdict_then,
        now=verdict_now,
        facts=record.facts,
        identifying=_read_identifying_parts(quote, event_log),
    )


def _read_identifying_parts(quote: bytes, event_log: bytes | None) -> dict[str, str]:
    """Parse the files of a record, and return what in them identifies the machine."""
    try:
        parsed_log = None if event_log is None else parse_event_log(event_log)
        parsed_quote = parse_quote(quote)
    except AttestationError as error:
        raise RecordInvalid(
            f"a file of the record cannot be read: {error.detail}", file=QUOTE_FILE
        ) from None
    return identifying_parts(parsed_quote, parsed_log)


def _read_record(folder: Path) -> _Record:
    """Read `record.json`, and check its hash and form.

    Raises:
        RecordInvalid: the file cannot be read, was changed, or is of another version.
    """
    data = _read_file(folder, RECORD_FILE, MAX_RECORD_BYTES)
    try:
        members = parse_json(data, max_bytes=MAX_RECORD_BYTES)
        record = shaped(members, _Record)
        members_without_seal = {name: text for name, text in members.items() if name != "seal"}
        expected_data = sealed_record(members_without_seal)
    except (InvalidJson, InvalidCanonicalJson) as error:
        raise RecordInvalid(f"{RECORD_FILE} cannot be read: {error}", file=RECORD_FILE) from None
    # The whole file is compared, not the hash alone: only one encoding of the members is accepted,
    # so that a changed space is noticed too.
    if data != expected_data:
        raise RecordInvalid(
            f"{RECORD_FILE} was changed: it has another hash than {record.seal[:16]}…",
            file=RECORD_FILE,
        )
    has_required_files = {QUOTE_FILE, COLLATERAL_FILE} <= record.files.keys()
    has_known_files_only = record.files.keys() <= _LIMITS.keys()
    if record.type != RECORD_TYPE or not has_required_files or not has_known_files_only:
        raise RecordInvalid(f"{RECORD_FILE} is of another version", file=RECORD_FILE)
    return record


def _read_file(folder: Path, name: str, most_bytes: int) -> bytes:
    """Read a file of a record.

    Raises:
        RecordInvalid: it is missing, unreadable or too long.
    """
    path = folder / name
    try:
        data = read_foreign(path, most_bytes=most_bytes)
    except OSError as error:
        reason, _ = file_fault(path, error.errno)
        raise RecordInvalid(f"cannot read {printable(str(path))}: {reason}", file=name) from None
    if len(data) > most_bytes:
        raise RecordInvalid(f"{name} has more than {most_bytes} bytes", file=name)
    return data
