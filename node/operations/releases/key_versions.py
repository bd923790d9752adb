"""Operations that replace and retire an encryption network's key (EN35 to EN39).

Only the owner in person may change the versions of a key. To install a version or to destroy one,
the caller also needs a statement that the owner's wallet or own key signed, which a stolen session
does not have.
"""

from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta

from capabilities.facts import KEYS_FACT
from capabilities.strict_json import JsonObject, StrictRecord
from encryption_network.canonical_json import canonical_bytes
from encryption_network.key_versions import MAX_KEY_VERSION, MAX_STATEMENT_BYTES
from encryption_network.network_errors import RequestError
from encryption_network.networks import NetworkRecord, parse_path_id
from encryption_network.pins import NetworkPin
from encryption_network.requests import read_body
from encryption_network.rotation import (
    candidate_json,
    keys_json,
    with_candidate,
    with_candidate_activated,
    with_key_destroyed,
    with_key_retiring,
)
from encryption_network.signed_descriptor import is_nonce
from sealspace.documents.key_statements import KeyChange, read_key_change, read_key_end
from sealspace.errors import StatementInvalid

from ...refusal import Refusal
from ...services import Services
from .network_operations import read_network
from .owner_policy import change_in_person

MAX_KEYS_BODY_BYTES = 4096
"""Longest body of a request to change a key: a statement, in which each quote takes two bytes."""

_KeyNumber = Annotated[int, Meta(ge=1, le=MAX_KEY_VERSION)]


class MakeCandidate(StrictRecord, tag_field="action", tag="candidate"):
    """A request for a candidate for the next version of a network's key.

    Attributes:
        nonce: 16 to 32 bytes in base64url without padding, over which the node signs its answer.
    """

    nonce: str


class ActivateKey(StrictRecord, tag_field="action", tag="activate"):
    """A request to make the candidate the newest version.

    Attributes:
        statement: the owner's signed statement, JSON text (EN36).
    """

    statement: Annotated[str, Meta(max_length=MAX_STATEMENT_BYTES)]


class RetireKey(StrictRecord, tag_field="action", tag="retire", rename="camel"):
    """A request to refuse new values that are sealed to a former version."""

    key_version: _KeyNumber


class DestroyKey(StrictRecord, tag_field="action", tag="destroy", rename="camel"):
    """A request to destroy the private key of a version that is retiring.

    Attributes:
        key_version: the version.
        statement: the owner's signed statement, JSON text (EN38).
    """

    key_version: _KeyNumber
    statement: Annotated[str, Meta(max_length=MAX_STATEMENT_BYTES)]


KeysRequest = MakeCandidate | ActivateKey | RetireKey | DestroyKey


async def read_keys(services: Services, path_id: str) -> JsonObject:
    """Return the versions of a network's key, and the owner's statements about them (EN37).

    Both are public, as the descriptor is. The statements are signed, and clients verify them.

    Args:
        path_id: untrusted.
    Raises:
        RequestError: the id is invalid, or there is no such network.
    """
    return keys_json(await read_network(services, parse_path_id(path_id)))


async def change_keys(services: Services, header: str, *, path_id: str, body: bytes) -> JsonObject:
    """Replace or retire an encryption network's key (EN35, EN38).

    Args:
        header: untrusted, see `change_in_person`.
        path_id: network id of the path, percent-decoded once.
        body: untrusted JSON, one of `KeysRequest`.
    Returns:
        The candidate with the node's signature, or the versions of the key after the change.
    Raises:
        Refusal: `request-malformed`, the body is not one of `KeysRequest`, or the nonce is not
            valid.
        RequestError: the errors of `encryption_network.rotation`, if the state of the network or of
            the version does not allow the change; `key-statement-refused`, the statement is not
            valid, or names another key than the candidate; `key-version-changed`, it replaces
            another version than the newest.
        Errors of `change_in_person`.
    """
    value = read_body(body, max_bytes=MAX_KEYS_BODY_BYTES)
    try:
        request: KeysRequest = msgspec.convert(value, KeysRequest)
    except msgspec.ValidationError as exc:
        hint = "send the members of one documented action"
        if isinstance(value, dict) and value.get("action") == "destroy":
            hint = "sign the destruction with the owner's wallet, in a newer version of sealspace"
        raise Refusal("request-malformed", hint=hint) from exc
    if isinstance(request, MakeCandidate) and not is_nonce(request.nonce):
        raise Refusal(
            "request-malformed",
            hint="nonce: send 16 to 32 bytes in base64url without padding",
        )
    record = await change_in_person(
        services,
        header,
        path_id=path_id,
        fact_type=KEYS_FACT,
        value=value,
        make=partial(_apply_request, request=request, services=services, now=services.now()),
        action=f"network.key.{_ACTIONS[type(request)]}",
        detail=_detail(request),
        in_person="sign in with the owner's wallet and change the key from that session",
        seals=isinstance(request, MakeCandidate),
    )
    if isinstance(request, MakeCandidate):
        return candidate_json(record, request.nonce, services.keyring.node_signer)
    return keys_json(record)


_ACTIONS: dict[type[KeysRequest], str] = {
    MakeCandidate: "candidate",
    ActivateKey: "activated",
    RetireKey: "retiring",
    DestroyKey: "retired",
}


def _detail(request: KeysRequest) -> bytes:
    """Return the detail of the audit record, which tells what was requested."""
    match request:
        case MakeCandidate():
            return b""
        case ActivateKey(statement=statement) | DestroyKey(statement=statement):
            return statement.encode()
        case RetireKey(key_version=key_version):
            return canonical_bytes({"keyVersion": key_version})


def _apply_request(
    record: NetworkRecord, *, request: KeysRequest, services: Services, now: float
) -> NetworkRecord:
    """Return a network's record after a request to change its key.

    Args:
        record: as stored.
        request: of the owner in person.
        services: for the node's keys.
        now: the time of the request, epoch seconds.
    Raises:
        RequestError: the state of the network or of the version does not allow the change;
            `key-statement-refused` or `key-version-changed`, the owner's statement does not fit.
    """
    match request:
        case MakeCandidate():
            return with_candidate(
                record, now=now, keyring=services.keyring, entropy=services.entropy
            )
        case ActivateKey(statement=statement):
            data = statement.encode()
            _check_statement(data, record, node_did=services.keyring.node_did)
            return with_candidate_activated(record, data, now=now)
        case RetireKey(key_version=key_version):
            return with_key_retiring(record, key_version, now=now)
        case DestroyKey(key_version=key_version, statement=statement):
            destroyed = with_key_destroyed(record, key_version, now=now)
            _check_end(statement.encode(), record, key_version, node_did=services.keyring.node_did)
            return destroyed


def _check_statement(data: bytes, record: NetworkRecord, *, node_did: str) -> None:
    """Check that the owner's statement replaces the newest version by the candidate (EN36).

    Raises:
        RequestError: `key-statement-refused`, the statement is not valid, or names another key than
            the candidate; `key-version-changed`, it replaces another version than the newest.
    """
    change = _read_statement(data, record, node_did=node_did)
    newest = NetworkPin(
        network=record.network, public_key=record.public_key, key_version=record.key_version
    )
    if not change.follows(newest):
        raise RequestError(
            "key-version-changed",
            f"the statement does not replace version {record.key_version}, which is the newest",
        )
    candidate = record.candidate
    if candidate is None:
        raise RequestError("key-version-changed", "there is no candidate for the next version")
    if change.pin.public_key != candidate.public_key:
        raise RequestError("key-statement-refused", "it names another key than the candidate")


def _check_end(data: bytes, record: NetworkRecord, key_version: int, *, node_did: str) -> None:
    """Check that the owner's statement destroys a former version (EN38).

    Raises:
        RequestError: `key-statement-refused`, the statement is not valid, or names another key.
    """
    try:
        end = read_key_end(data, network=record.network_id, node_did=node_did)
    except StatementInvalid as exc:
        raise RequestError("key-statement-refused", exc.message) from exc
    for former in record.former_keys:
        pin = NetworkPin(
            network=record.network,
            public_key=former.public_key,
            key_version=former.key_version,
        )
        if former.key_version == key_version and end.key.is_of(pin):
            return
    raise RequestError("key-statement-refused", "it destroys another key")


def _read_statement(data: bytes, record: NetworkRecord, *, node_did: str) -> KeyChange:
    """Parse and verify the owner's statement about a network's key."""
    try:
        return read_key_change(data, network=record.network_id, node_did=node_did)
    except StatementInvalid as exc:
        raise RequestError("key-statement-refused", exc.message) from exc
