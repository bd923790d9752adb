"""What a client sent to the fake node: tokens, requests for keys, envelopes and nonces."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealspace_conformance.encodings import dag_cbor, from_b64url, from_dag_cbor, sha256_of
from sealspace_conformance.envelopes import ALGORITHM, Receiver, from_b64, request_fact
from sealspace_conformance.keys import is_signed_by, signing_address
from sealspace_conformance.report import FAILED, NOT_APPLICABLE, PASSED, Row, shown
from sealspace_conformance.tokens import sentence, signed_text

_MOST_LIFETIME_S = 300
_MONTH_S = 30 * 86_400
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_NONCE = re.compile(r"[A-Za-z0-9_-]{22,43}")
_PATH = re.compile(
    r"tinycloud:[^/]+:secrets/kv/vault/secrets/(?:scoped/[a-z0-9-]+/)?[A-Z][A-Z0-9_]*"
)
_ENVELOPE = {
    "v",
    "networkId",
    "alg",
    "keyVersion",
    "encryptedSymmetricKey",
    "encryptedSymmetricKeyHash",
    "ciphertext",
}


@dataclass(frozen=True)
class Seen:
    """A request of the client."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def token(self) -> str:
        """The token; empty without one."""
        return self.headers.get("Authorization", "")

    @property
    def has_ucan(self) -> bool:
        """Whether the token is a UCAN."""
        return "." in self.token

    @property
    def claims(self) -> dict[str, Any]:
        """The payload of a UCAN; empty without one."""
        parts = self.token.split(".")
        return _object(_decoded(parts[1])) if len(parts) == 3 else {}

    @property
    def stored_at(self) -> str:
        """The resource to which a value is written; empty for every other request."""
        grants = self.claims.get("att")
        if not isinstance(grants, dict) or self.path != "/invoke":
            return ""
        for resource, abilities in grants.items():
            if isinstance(abilities, dict) and "tinycloud.kv/put" in abilities:
                return str(resource)
        return ""


def _decoded(text: str) -> bytes:
    """Return the bytes of base64url; empty if it is anything else."""
    try:
        return from_b64url(text)
    except ValueError:
        return b""


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Examination:
    """The requests of one run with true answers.

    Attributes:
        node: the DID of the fake node.
        network_key: the key of its network.
        value: the secret's value.
        now: epoch seconds at the end of the run.
        seen: the requests.
    """

    node: str
    network_key: Receiver
    value: str
    now: float
    seen: Sequence[Seen]

    @property
    def ucans(self) -> list[Seen]:
        """Requests with a UCAN that is a call."""
        return [one for one in self.seen if one.has_ucan and one.path != "/delegate"]

    @property
    def envelopes(self) -> list[tuple[str, dict[str, Any]]]:
        """The envelopes that were stored, with their resources."""
        stored = [(one.stored_at, _object(one.body)) for one in self.seen if one.stored_at]
        return [(where, body) for where, body in stored if "encryptedSymmetricKey" in body]

    @property
    def opened(self) -> list[tuple[bytes, bytes]]:
        """The content keys of the envelopes, and what they open; empty bytes if they do not."""
        return [self._open(body) for _, body in self.envelopes]

    def _open(self, envelope: Mapping[str, Any]) -> tuple[bytes, bytes]:
        try:
            key = self.network_key.open(from_b64(envelope.get("encryptedSymmetricKey")))
            sealed = from_b64(envelope.get("ciphertext"))
            return key, AESGCM(key).decrypt(sealed[:12], sealed[12:], None)
        except (ValueError, InvalidTag):
            return b"", b""


Faults = list[str] | None
"""What is wrong; None: the client sent nothing of the kind."""


def _value(of: Examination) -> Faults:
    secret = of.value.encode()
    found = []
    for one in of.seen:
        head = f"{one.path} {dict(one.query)} {dict(one.headers)}".encode()
        if secret in one.body or secret in head:
            found.append(f"{one.method} {one.path}")
    return found


def _sign_ins(of: Examination) -> Faults:
    tokens = [one.token for one in of.seen if one.path == "/delegate" and not one.has_ucan]
    if not tokens:
        return None
    return [fault for token in tokens for fault in sign_in_faults(token)]


def sign_in_faults(token: str) -> list[str]:
    """Return what is wrong with a sign-in (C1, C5, S7, J4)."""
    try:
        data = from_b64url(token)
    except ValueError:
        return ["it is not base64url"]
    whole = from_dag_cbor(data)
    if not isinstance(whole, dict) or dag_cbor(whole) != data:
        return ["it is not canonical DAG-CBOR"]
    payload, signature = whole.get("p"), whole.get("s")
    if not isinstance(payload, dict) or not isinstance(signature, dict):
        return ["it has no payload or signature"]
    address = str(payload.get("iss", "")).rpartition(":")[2]
    found = []
    try:
        signed = signed_text(payload, address)
        by = signing_address(signed, signature.get("s"))
    except (KeyError, IndexError, TypeError):
        return ["a member of the payload is missing"]
    if by != address:
        found.append("another wallet signed it")
    did, _, fragment = str(payload["aud"]).partition("#")
    if did.startswith("did:key:") and fragment != did.removeprefix("did:key:"):
        found.append("it names the session's key without its fragment")
    if not _TIME.fullmatch(str(payload["iat"])):
        found.append("its time is not UTC with milliseconds")
    last = payload["resources"][-1] if payload.get("resources") else ""
    recap = _object(_decoded(str(last).removeprefix("urn:recap:"))) if last else {}
    stated = sentence(recap["att"]) if isinstance(recap.get("att"), dict) else "?"
    if not str(payload.get("statement", "")).endswith(stated):
        found.append("the statement does not end with what is granted")
    return found


def _sign_in_ends(of: Examination) -> Faults:
    found: list[str] = []
    tokens = [one.token for one in of.seen if one.path == "/delegate" and not one.has_ucan]
    for token in tokens:
        whole = from_dag_cbor(_decoded(token))
        payload = whole.get("p") if isinstance(whole, dict) else None
        if not isinstance(payload, dict) or "exp" not in payload:
            found.append("a sign-in has no end")
            continue
        begins = datetime.fromisoformat(str(payload["iat"]))
        ends = datetime.fromisoformat(str(payload["exp"]))
        if (ends - begins).total_seconds() > _MONTH_S:
            found.append("a sign-in lasts for more than 30 days")
    return found if tokens else None


def _signatures(of: Examination) -> Faults:
    found = []
    for one in of.ucans:
        signed, _, signature = one.token.rpartition(".")
        issuer = str(one.claims.get("iss", "")).split("#")[0]
        if not is_signed_by(issuer, signed.encode(), _decoded(signature)):
            found.append(f"{one.method} {one.path}")
    return found if of.ucans else None


def _single_use(of: Examination) -> Faults:
    tokens = [one.token for one in of.ucans]
    repeated = {token for token in tokens if tokens.count(token) > 1}
    return [f"{len(repeated)} tokens were sent twice"] if repeated else []


def _audiences(of: Examination) -> Faults:
    found = []
    for one in of.ucans:
        audience = str(one.claims.get("aud", ""))
        issuer = str(one.claims.get("iss", "")).split("#")[0]
        allowed = {of.node} if one.path.startswith("/encryption/") else {of.node, issuer}
        if audience not in allowed:
            found.append(f"{one.path}: {audience}")
    return found if of.ucans else None


def _lifetimes(of: Examination) -> Faults:
    found = []
    for one in of.ucans:
        end = one.claims.get("exp")
        if not isinstance(end, (int, float)) or end > of.now + _MOST_LIFETIME_S:
            found.append(f"{one.path}: exp {end}")
    return found if of.ucans else None


def _key_requests(of: Examination) -> Faults:
    asked = [one for one in of.seen if one.path.endswith("/decrypt")]
    found: list[str] = []
    for one in asked:
        body = _object(one.body)
        try:
            wanted = request_fact(body)
        except KeyError as missing:
            found.append(f"the body has no {missing}")
            continue
        if body.keys() - wanted.keys() != {"encryptedSymmetricKey", "receiverPublicKey"}:
            found.append("the body has other members")
        for name in ("encryptedSymmetricKey", "receiverPublicKey"):
            if body.get(f"{name}Hash") != sha256_of(body.get(name)):
                found.append(f"the hash of {name} is another one")
        facts = one.claims.get("fct")
        if not isinstance(facts, list) or wanted not in facts:
            found.append("no fact binds the token to the body")
        if body["targetNode"] != of.node:
            found.append("the request is for another node")
    return found if asked else None


def _forms(of: Examination) -> Faults:
    found = []
    for _, body in of.envelopes:
        members = set(body) - {"aad", "metadata"}
        if members != _ENVELOPE or body.get("v") != 1 or body.get("alg") != ALGORITHM:
            found.append(f"members {sorted(body)}")
        elif body["encryptedSymmetricKeyHash"] != sha256_of(body["encryptedSymmetricKey"]):
            found.append("the hash is of another key")
    return found if of.envelopes else None


def _contents(of: Examination) -> Faults:
    found = []
    for key, opened in of.opened:
        secret = _object(opened)
        if len(key) != 32:
            found.append("it does not open")
        elif not all(isinstance(secret.get(n), str) for n in ("value", "createdAt", "updatedAt")):
            found.append("what it opens to is no secret")
        elif secret["value"] != of.value:
            found.append("it opens to another value")
    return found if of.opened else None


def _fresh_keys(of: Examination) -> Faults:
    keys = [key for key, _ in of.opened]
    return ["a content key was used twice"] if len(set(keys)) < len(keys) else []


def _paths(of: Examination) -> Faults:
    stored = [where for where, _ in of.envelopes]
    return [where for where in stored if not _PATH.fullmatch(where)] if stored else None


def _nonces(of: Examination) -> Faults:
    asked = [one for one in of.seen if one.path.startswith("/encryption/networks/")]
    nonces = [one.query.get("nonce", "") for one in asked if one.method == "GET"]
    found = [f"nonce {nonce!r}" for nonce in nonces if not _NONCE.fullmatch(nonce)]
    if len(set(nonces)) < len(nonces):
        found.append("a nonce was used twice")
    return found if nonces else None


_CHECKS: tuple[tuple[str, str, str, Callable[[Examination], Faults]], ...] = (
    ("EN22", "the secret's value", "in no request", _value),
    ("J4", "the sign-in", "canonical, signed by the wallet, and as its statement says", _sign_ins),
    ("IP2", "the end of the sign-in", "within 30 days", _sign_in_ends),
    ("K1", "signatures of calls", "by their issuers", _signatures),
    ("J5", "tokens of calls", "each sent once", _single_use),
    ("J5", "audiences of calls", "the node, or where it is allowed the issuer", _audiences),
    ("I4", "lifetimes of calls", "at most 300 s", _lifetimes),
    ("EN13", "requests for keys", "closed, with a fact that has their hashes", _key_requests),
    ("EN23", "envelopes", "the members of an envelope, and the hash of its key", _forms),
    ("EN26", "contents of envelopes", "a secret with the value", _contents),
    ("EN22", "content keys", "another one in each envelope", _fresh_keys),
    ("EN25", "paths of secrets", "below vault/secrets/ in the space secrets", _paths),
    ("EN29", "nonces of descriptors", "16 to 32 bytes, each used once", _nonces),
)


def examine(of: Examination) -> list[Row]:
    """Return the rows about what a client sent."""
    rows = []
    for rule, asked, expected, check in _CHECKS:
        try:
            faults = check(of)
        except Exception as error:  # a request of a form that no check foresaw
            faults = [f"it could not be read: {type(error).__name__}"]
        rows.append(_row(rule, asked, expected, faults))
    return rows


def _row(rule: str, asked: str, expected: str, faults: Faults) -> Row:
    if faults is None:
        verdict, seen = NOT_APPLICABLE, "the client sent nothing of this kind"
    elif faults:
        verdict, seen = FAILED, "; ".join(faults[:5])
    else:
        verdict, seen = PASSED, expected
    return Row(
        rule=rule,
        group="client requests",
        asked=asked,
        expected=expected,
        seen=shown(seen),
        verdict=verdict,
    )
