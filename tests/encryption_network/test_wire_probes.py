"""The recorded encryption cases, answered by the ladders alone."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from refusal_forms import on_invoke, on_route
from tests_support import CountingEntropy, json_lines, shared_vectors

from capabilities.abilities import NETWORK_CREATE, NETWORK_REVOKE
from capabilities.capability_errors import CapabilityError, ChainError, MalformedToken
from capabilities.chain import (
    Marker,
    Registered,
    check_lifetime,
    judge_invocation,
    judge_registration,
    judge_revocation,
)
from capabilities.principals import ed25519_public_key
from capabilities.sign_ins import AuthorityFacts, owner_authority
from capabilities.signatures import verify_ed25519
from capabilities.tokens import (
    check_window,
    parse_delegation,
    parse_invocation,
    parse_revocation,
    verify_delegation,
    verify_invocation,
    verify_revocation,
)
from encryption_network import networks, requests
from encryption_network.canonical_json import canonical_bytes
from encryption_network.gate import ReleaseRequest, admit
from encryption_network.grounds import RowStamp
from encryption_network.keyring import Keyring
from encryption_network.keywrap import open_wrapped
from encryption_network.network_errors import EncryptionError, RequestError
from encryption_network.release import open_key
from encryption_network.release_record import ReleaseRecord
from encryption_network.withdrawals import NOTHING_WITHDRAWN
from node.refusal import Refusal

pytestmark = pytest.mark.shared

SECRET = b"Some long piece of entropy which is a secret and more than 32 bytes"
REFUSED = {"enc-W5", "enc-W6", "enc-W8"}
# Where the recorded answer is not ours, and ours.
DEPARTURES: dict[str, tuple[int, str]] = {
    # W4: a token opens once, on both routes together.
    "decrypt.invoke.after-route": (409, "duplicate invocation"),
    # A refusal spends the token too.
    "decrypt.invoke.retry-after-403": (409, "duplicate invocation"),
    # W13: no owner is named.
    "net.well-known-no-owner": (
        400,
        "decrypt request body is malformed: name the owner with ownerDid",
    ),
    "net.create-upper-name": (
        400,
        "the name of a new network may contain only a-z, 0-9 and '-', and must not begin with '-'",
    ),
    # W19, Q35: objects only.
    "decrypt.route.fact-positional": (
        400,
        "decrypt request body is malformed: missing encryption invocation facts",
    ),
    "decrypt.invoke.body-positional": (
        403,
        "decrypt request body is malformed: invalid type: sequence, expected an object",
    ),
}
# The framework's business (routes, content types) or another package's (spaces).
ELSEWHERE = {
    "net.create-no-content-type",
    "decrypt.route.content-type-absent",
    "decrypt.route.no-authorization",
    "decrypt.route.get-method",
    "decrypt.route.att-with-kv",
    "decrypt.route.with-kv-del",
    "decrypt.invoke.with-kv-del",
}


class Page(Exception):
    """An answer whose body is a page of the web framework."""

    def __init__(self, status: int) -> None:
        self.status = status


class MiniNode:
    """The ladders over dictionaries in place of a store, without a gate."""

    def __init__(self, key_pairs: dict[str, tuple[bytes, bytes]]) -> None:
        self.keyring = Keyring(SECRET)
        self.entropy = CountingEntropy(b"mini")
        self.key_pairs = key_pairs
        self.links: dict[bytes, Registered] = {}
        self.by_cid: dict[bytes, bytes] = {}
        self.marks: dict[Any, Marker] = {}
        self.networks: dict[str, networks.NetworkRecord] = {}
        self.claims: set[bytes] = set()

    def answer(self, exchange: Any) -> tuple[int, Any]:
        """Return status and body of one exchange."""
        request = exchange["request"]
        self.now = exchange["at"]
        url = urlsplit(request["path"])
        header = dict(request["headers"]).get("authorization", "")
        body = (request["body"] or {}).get("utf8", "").encode()
        invoke = url.path == "/invoke"
        try:
            return self.route(request["method"], url.path, parse_qs(url.query), header, body)
        except Page as page:
            return page.status, None
        except MalformedToken:
            return 401, None
        except EncryptionError as exc:
            return on_invoke(exc) if invoke else on_route(exc)
        except Refusal as exc:
            return 409, str(exc)
        except CapabilityError as exc:
            return (
                403 if invoke and isinstance(exc, ChainError) and not self.early else 401
            ), exc.text

    def route(
        self, method: str, path: str, query: Any, header: str, body: bytes
    ) -> tuple[int, Any]:
        """Dispatch a request to its route."""
        self.early = True
        parts = [unquote(part) for part in path.split("/")[1:]]
        match [method, *parts]:
            case ["POST", "delegate"]:
                return self.delegate(header)
            case ["POST", "revoke"]:
                return self.revoke(header)
            case ["POST", "invoke"]:
                return self.invoke(header, body)
            case ["POST", "encryption", "networks"]:
                return self.create(header, body)
            case ["GET", "encryption", "networks", text]:
                return 200, {
                    "descriptor": networks.descriptor_json(self.found(text), self.keyring.node_did)
                }
            case ["GET", ".well-known", "encryption", "network", name]:
                network = networks.well_known_id(name, query.get("ownerDid", [None])[0])
                return 200, networks.well_known_json(self.found(network.text))
            case ["POST", "encryption", "networks", text, "decrypt"]:
                return self.decrypt(header, text, body)
            case ["POST", "encryption", "networks", text, "revoke"]:
                return self.revoke_network(header, text)
        raise Page(404)

    def found(self, text: str) -> networks.NetworkRecord:
        record = self.networks.get(networks.parse_path_id(text).text)
        if record is None:
            raise RequestError("network-not-found")
        return record

    # --- tokens ---

    def cited(self, parents: Any) -> list[Registered | None]:
        return [self.links.get(self.by_cid.get(parent.digest, b"")) for parent in parents]

    def delegate(self, header: str) -> tuple[int, Any]:
        delegation = verify_delegation(parse_delegation(header))
        parents = self.cited(delegation.parents)
        self.links[delegation.content_key] = judge_registration(
            delegation, parents, self.marks, now=self.now
        )
        self.by_cid[delegation.cid] = delegation.content_key
        self.marks[delegation.content_key] = Marker.LIVE
        return 200, None

    def revoke(self, header: str) -> tuple[int, Any]:
        revocation = verify_revocation(parse_revocation(header))
        proofs = self.cited(revocation.parents)
        target = self.cited(revocation.targets)[0]
        judge_revocation(revocation, proofs, [target], self.marks, now=self.now)
        assert target is not None
        self.marks[target.delegation.content_key] = Marker.REVOKED
        return 200, None

    def judged(self, invocation: Any) -> tuple[Any, list[Registered]]:
        cited = self.cited(invocation.parents)
        authority = judge_invocation(invocation, cited, self.marks, now=self.now)
        return authority, [link for link in cited if link is not None]

    def authorised(self, header: str) -> Any:
        unverified = parse_invocation(header)
        requests.check_audience(unverified.audience, self.keyring.node_did)
        invocation = verify_invocation(unverified)
        check_window(invocation, self.now)
        return invocation

    def claim(self, key: bytes, error: RequestError | Refusal) -> None:
        if key in self.claims:
            raise error
        self.claims.add(key)

    # --- networks ---

    def create(self, header: str, body: bytes) -> tuple[int, Any]:
        parse_invocation(header)
        value = requests.read_body(body, max_bytes=requests.MAX_BODY_BYTES)
        invocation = self.authorised(header)
        self.judged(invocation)
        network, body_hash = requests.parse_create(value)
        nonce = requests.bind_admin(
            invocation,
            network,
            action=NETWORK_CREATE,
            body_hash=body_hash,
            node_did=self.keyring.node_did,
        )
        self.claim(requests.admin_nonce_key(invocation, nonce), RequestError("nonce-used"))
        requests.check_create(self.networks.get(network.text))
        record = networks.create_network(
            network, now=self.now, keyring=self.keyring, entropy=self.entropy
        )
        record = self.with_recorded_keys(record)
        self.networks[network.text] = networks.decode_network(networks.encode_network(record))
        return 200, {"descriptor": networks.descriptor_json(record, self.keyring.node_did)}

    def with_recorded_keys(self, record: networks.NetworkRecord) -> networks.NetworkRecord:
        from msgspec.structs import replace

        pair = self.key_pairs.get(record.network_id.text)
        if pair is None:
            return record
        sealed = self.keyring.seal(pair[1], self.entropy)
        return replace(record, public_key=pair[0], sealed_private_key=sealed)

    def revoke_network(self, header: str, text: str) -> tuple[int, Any]:
        invocation = self.authorised(header)
        self.judged(invocation)
        network = networks.parse_path_id(text)
        nonce = requests.bind_admin(
            invocation,
            network,
            action=NETWORK_REVOKE,
            body_hash=requests.REVOKE_BODY_HASH,
            node_did=self.keyring.node_did,
        )
        self.claim(requests.admin_nonce_key(invocation, nonce), RequestError("nonce-used"))
        record = requests.check_revoke(self.networks.get(network.text))
        self.networks[network.text] = networks.revoked(record, self.now)
        return 204, None

    # --- decrypt ---

    def decrypt(self, header: str, text: str, body: bytes) -> tuple[int, Any]:
        parse_invocation(header)
        value = requests.read_body(body, max_bytes=requests.MAX_BODY_BYTES)
        invocation = self.authorised(header)
        self.claim(invocation.content_key, Refusal("duplicate-invocation"))
        judged = self.judged(invocation)
        return self.opened(invocation, networks.parse_path_id(text), value, judged)

    def invoke(self, header: str, body: bytes) -> tuple[int, Any]:
        unverified = parse_invocation(header)
        check_window(unverified, self.now)
        invocation = verify_invocation(unverified)
        check_lifetime(invocation, self.now)
        network = requests.invoked_network(invocation.capabilities)
        if network is None:
            return 200, None
        value = requests.read_body(body, max_bytes=requests.MAX_BODY_BYTES)
        self.early = False
        self.claim(invocation.content_key, Refusal("duplicate-invocation"))
        judged = self.judged(invocation)
        return self.opened(invocation, network, value, judged)

    def opened(
        self, invocation: Any, network: Any, value: Any, judged: tuple[Any, list[Registered]]
    ) -> tuple[int, Any]:
        parsed = requests.parse_decrypt_body(value)
        bound = requests.bind_decrypt(invocation, parsed, network, self.keyring.node_did)
        checked = requests.check_decrypt(bound, self.networks.get(network.text), self.now)
        authority, cited = judged
        keys = [member.content_key for link in cited for member in link.closure]
        admission = admit(
            ReleaseRequest(
                decrypt=checked,
                authority=authority,
                owner=owner_authority(
                    AuthorityFacts(
                        owner=checked.network.owner,
                        invoker=invocation.invoker,
                        cited=tuple(link.delegation.content_key for link in cited),
                        links={key: self.links[key] for key in keys},
                        sessions=(),
                        marks=self.marks,
                        now=self.now,
                    )
                ),
                exchange_key=self.keyring.exchange_signer.did,
                release_record=ReleaseRecord(mode="off"),
                network_row=RowStamp(b"n", b"1"),
                record_row=RowStamp(b"r", b"1"),
                withdrawals=NOTHING_WITHDRAWN,
                withdrawals_row=RowStamp(b"w", b"1"),
            )
        )
        return 200, open_key(admission, keyring=self.keyring, entropy=self.entropy)


def cases() -> Iterator[Any]:
    """Return the recorded cases that this package decides."""
    path = shared_vectors("wire/probes.jsonl")
    if not path.exists():
        return
    for line in json_lines(path):
        if line["case"].startswith(("net.", "decrypt.")) and line["case"] not in ELSEWHERE:
            yield pytest.param(line, id=line["case"])


@pytest.fixture(scope="module")
def key_pairs() -> dict[str, tuple[bytes, bytes]]:
    """Return the recorded networks' keys: id -> (public, private)."""
    return {
        line["networkId"]: (
            base64.b64decode(line["publicKey"]),
            base64.b64decode(line["privateKey"]),
        )
        for line in json_lines(shared_vectors("wire/probes-networks.jsonl"))
    }


def expected(case: Any) -> tuple[int, str | None]:
    """Return the expected status and text, or None for a page or an object."""
    if case["case"] in DEPARTURES:
        return DEPARTURES[case["case"]]
    status, body = case["result"]["status"], case["result"]["body"]
    if case["fault"] in REFUSED and status == 200:
        return (
            (403, "key backend error: ")
            if case["request"]["path"] == "/invoke"
            else (500, "key backend error: ")
        )
    return status, None if body in ("{page}", "") or status == 200 else body


def pattern(text: str) -> str:
    """Return a recorded text with placeholders as a regular expression."""
    return re.sub(r"\\\{\w+\\\}", r"[^ ]+", re.escape(text))


@pytest.mark.parametrize("case", list(cases()))
def test_recorded_case(case: Any, key_pairs: dict[str, tuple[bytes, bytes]]) -> None:
    """A recorded case gets the recorded status and text, or the listed difference."""
    node = MiniNode(key_pairs)
    for exchange in case["setup"]:
        node.answer(exchange)
    status, body = node.answer(case)
    wanted_status, wanted_text = expected(case)
    assert (status, wanted_text) == (wanted_status, wanted_text), body
    if wanted_text is not None:
        assert re.match(pattern(wanted_text), body), body
    elif status == 200 and isinstance(body, dict):
        check_object(case, body, node)


def check_object(case: Any, body: dict[str, Any], node: MiniNode) -> None:
    """Compare the members of an answer with the recorded ones, and open the wrapped key."""
    recorded = json.loads(case["response"]["body"]["utf8"])
    assert body.keys() == recorded.keys()
    if "descriptor" in body:
        body, recorded = body["descriptor"], recorded["descriptor"]
        assert body.keys() == recorded.keys()
    free = {"wrappedKey", "nodeSignature", "createdAt", "updatedAt"}
    assert {k: v for k, v in body.items() if k not in free} == {
        k: v for k, v in recorded.items() if k not in free
    }
    if "wrappedKey" in body:
        signed = canonical_bytes(
            {name: value for name, value in body.items() if name != "nodeSignature"}
        )
        public_key = ed25519_public_key(node.keyring.node_did)
        assert public_key is not None
        verify_ed25519(public_key, signed, base64.b64decode(body["nodeSignature"]))
        receiver = bytes.fromhex(case["keys"]["receiver"]["secret"])
        ours, theirs = (
            open_wrapped(receiver, base64.b64decode(o["wrappedKey"])) for o in (body, recorded)
        )
        assert ours == theirs
