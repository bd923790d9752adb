"""What has to be in the store after a history with faults: audit records and receipts.

The records are read by the commands that an operator would use: `admin audit export`, `admin
receipts list` and `admin check`.

Each acknowledged change is in the audit log once. A change whose outcome is unknown may be there
once, and a refused one is not. Each release has one record, which names the receipt.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import libipld
from history.checker import Call, Did, Said
from history.faulty_node import FaultyNode
from wire_replay import token_id

from capabilities.audit_export import verify_export
from encryption_network.receipt import parse_receipt, verify_receipt
from sealspace.receipts import digest_of, named_receipt

_ACTIONS = {Did.PUT: "kv.put", Did.DELETE: "kv.del", Did.DECRYPT: "release.authorised"}
REVOKED = "delegation.revoked"
DIGEST_BYTES = 32


@dataclass(frozen=True)
class Sent:
    """The calls with one token.

    Attributes:
        token: what was sent.
        calls: every sending.
    """

    token: str
    calls: Sequence[Call]


@dataclass(frozen=True)
class Grant:
    """A registered grant and the calls that revoke it."""

    token: str
    revocations: Sequence[Call]


@dataclass(frozen=True)
class Records:
    """The records of a store.

    Attributes:
        entries: of the audit log, as JSON lines.
        receipts: signed receipts, as JSON lines.
        findings: lines of `admin check`.
    """

    entries: Sequence[bytes]
    receipts: Sequence[bytes]
    findings: Sequence[str] = ()


class UnreadableRecords(Exception):
    """A command that reads records failed."""


def read_records(node: FaultyNode, node_did: str) -> Records:
    """Read the records of a node's store and verify the chain of the audit log."""
    entries: list[bytes] = []
    export = _output(node, "admin", "audit", "export").splitlines()
    verify_export(export, node_did=node_did, on_entry=lambda _, entry: entries.append(entry))
    receipts = _output(node, "admin", "receipts", "list").splitlines()
    check = node.command("admin", "check")
    findings = check.stdout.decode().splitlines() if check.returncode != 0 else []
    if check.returncode not in (0, 1):
        raise UnreadableRecords(check.stderr.decode())
    return Records(entries=entries, receipts=receipts, findings=findings)


def _output(node: FaultyNode, *words: str) -> bytes:
    done = node.command(*words)
    if done.returncode != 0:
        raise UnreadableRecords(done.stderr.decode())
    return done.stdout


def record_faults(records: Records, sent: Iterable[Sent], grants: Iterable[Grant]) -> list[str]:
    """Return the faults of a store's records; empty if they fit the calls."""
    return [
        *records.findings,
        *_entry_faults(records, sent, grants),
        *_receipt_faults(records),
    ]


def _entry_faults(records: Records, sent: Iterable[Sent], grants: Iterable[Grant]) -> Iterator[str]:
    by_token: Counter[tuple[str, str]] = Counter()
    by_subject: Counter[tuple[str, str]] = Counter()
    for line in records.entries:
        entry = json.loads(line)
        by_token[entry["action"], entry["token"]] += 1
        by_subject[entry["action"], entry["subject"]] += 1
    for one in sent:
        action = _ACTIONS.get(one.calls[0].did)
        if action is not None:
            found = by_token[action, token_hex(one.token)]
            if found not in _allowed(one.calls):
                yield f"{action}: {found} audit records for {one.calls}"
    for grant in grants:
        subject = token_id(grant.token)
        if by_subject["delegation.registered", subject] != 1:
            yield f"the registration of {subject} is not in the audit log once"
        found = by_subject[REVOKED, subject]
        if found not in _allowed(grant.revocations):
            yield f"{REVOKED}: {found} audit records for {grant.revocations}"


def token_hex(token: str) -> str:
    """Return the digest in a token's id, as an audit entry has it."""
    return bytes(libipld.decode_multibase(token_id(token))[1])[-DIGEST_BYTES:].hex()


def _allowed(calls: Sequence[Call]) -> range:
    """Return how many audit records the calls with one token, or about one grant, may have."""
    answers = {call.said for call in calls}
    if Said.DONE in answers:
        return range(1, 2)
    if Said.UNKNOWN in answers:
        return range(2)
    return range(1)


def _receipt_faults(records: Records) -> Iterator[str]:
    kept: Counter[bytes] = Counter()
    for line in records.receipts:
        kept[digest_of(verify_receipt(parse_receipt(line)))] += 1
    named = Counter(_named(records.entries))
    for digest in named.keys() - kept.keys():
        yield f"the receipt {digest.hex()} of the audit log is missing"
    for digest in kept.keys() - named.keys():
        yield f"the receipt {digest.hex()} is not in the audit log"
    for digest, count in (named + kept).items():
        if count > 2:
            yield f"the receipt {digest.hex()} is there more than once"


def _named(entries: Sequence[bytes]) -> Iterator[bytes]:
    for entry in entries:
        digest = named_receipt(entry)
        if digest is not None:
            yield digest
