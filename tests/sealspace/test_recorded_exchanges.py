"""Tests of our client against recorded exchanges of another client with a node."""

import base64
import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from tests_support import CountingEntropy, json_lines, shared_vectors

from capabilities.cacao import header_bytes, parse_cacao
from capabilities.recap import PREFIX, recap_of
from capabilities.resources import network_of
from capabilities.strict_json import Json
from capabilities.tokens import parse_delegation
from encryption_network.envelope import InlineEnvelope, encode_envelope, parse_envelope
from encryption_network.requests import decrypt_fact
from sealspace.delegations import allow
from sealspace.documents.manifests import compose_manifests, parse_manifest, requested_capabilities
from sealspace.encryption import decrypt_body, verify_answer
from sealspace.errors import (
    InvalidResponse,
    ResponseBindingMismatch,
    ResponseSignatureInvalid,
    SealspaceError,
)
from sealspace.session import iso_time, read_grant, sign_message, space_of, token_cid
from sealspace.wallets import new_wallet
from sealspace.wire.sign_in import KV_ABILITIES

pytestmark = pytest.mark.shared


def exchanges(scenario: str) -> list[Any]:
    return list(json_lines(shared_vectors(f"wire/sdk-{scenario}.jsonl")))


def authorization(exchange: Any) -> str | None:
    return next(
        (value for name, value in exchange["request"]["headers"] if name == "authorization"), None
    )


def text_of(body: Any) -> str:
    if "utf8_fill" in body:
        head, unit, count, tail = body["utf8_fill"]
        return str(head + unit * count + tail)
    return str(body["utf8"])


@dataclass(frozen=True)
class Decrypt:
    """One recorded decrypt call that the node answered."""

    name: str
    token: str
    body: dict[str, Any]
    answer: dict[str, Any]


def decrypts() -> list[Decrypt]:
    return [
        Decrypt(
            name=f"{scenario}-{one['seq']}",
            token=authorization(one) or "",
            body=json.loads(text_of(one["request"]["body"])),
            answer=json.loads(text_of(one["response"]["body"])),
        )
        for scenario in ("secrets", "encryption", "vault")
        for one in exchanges(scenario)
        if one["request"]["path"].endswith("/decrypt") and one["response"]["status"] == 200
    ]


def envelopes() -> list[str]:
    """Return every envelope that was stored or read back, sorted."""
    found = set()
    for one in (*exchanges("secrets"), *exchanges("vault")):
        for side in (one["request"], one["response"]):
            body = side["body"]
            if body is None or not ("utf8" in body or "utf8_fill" in body):
                continue
            text = text_of(body)
            if text.startswith('{"v":1,'):
                found.add(text)
    return sorted(found)


def test_every_recorded_answer_is_accepted() -> None:
    """Our client accepts every answer that the other client accepted."""
    cases = decrypts()
    for case in cases:
        wrapped = verify_answer(case.answer, case.body, invocation_cid=token_cid(case.token))
        assert len(wrapped) == 93, case.name
    assert len(cases) > 10


def test_requests_are_made_as_the_other_client_makes_them() -> None:
    """Our client's decrypt request has the same body and fact as the recorded one."""
    by_key = {
        envelope.encrypted_symmetric_key: envelope
        for envelope in map(parse_envelope_text, envelopes())
    }
    compared = 0
    for case in decrypts():
        envelope = by_key.get(case.body["encryptedSymmetricKey"])
        if envelope is None:
            continue
        made = decrypt_body(
            envelope,
            target_node=case.body["targetNode"],
            receiver_public_key=base64.b64decode(case.body["receiverPublicKey"]),
        )
        fact = json.loads(base64.urlsafe_b64decode(case.token.split(".")[1] + "=="))["fct"][0]
        assert case.body == made
        assert fact == decrypt_fact(made)
        compared += 1
    assert compared > 5


def parse_envelope_text(text: str) -> InlineEnvelope:
    return parse_envelope(text.encode())


def test_recorded_secrets_cross_byte_for_byte() -> None:
    """Our client parses envelopes of the other client and writes them back byte for byte."""
    texts = envelopes()
    assert texts == [encode_envelope(parse_envelope_text(text)).decode() for text in texts]
    assert len(texts) > 5


@pytest.mark.parametrize(
    ("member", "value", "field"),
    [
        ("targetNode", "did:key:z6Mk", "targetNode"),
        ("networkId", "urn:tinycloud:encryption:did:key:z6Mk:default", "networkId"),
        ("nodeId", "did:key:z6MkrTtdPR2vyCnytuChTWGCzKqhUTZywQu7wHH3LvEjHKzf", "nodeId"),
        ("alg", "x25519-aes256gcm/v2", "alg"),
        ("keyVersion", 2, "keyVersion"),
        ("keyVersion", 1.0, "keyVersion"),
        ("keyVersion", True, "keyVersion"),
        ("encryptedSymmetricKeyHash", "00", "encryptedSymmetricKeyHash"),
        ("receiverPublicKeyHash", None, "receiverPublicKeyHash"),
        ("invocationCid", "bafkr4i", "invocationCid"),
        ("requestHash", "", "requestHash"),
    ],
)
def test_an_answer_to_another_request_is_refused(member: str, value: Json, field: str) -> None:
    """An answer is refused if a member differs from the request, and the error names the member."""
    case = decrypts()[0]
    with pytest.raises(ResponseBindingMismatch) as refusal:
        verify_answer(
            {**case.answer, member: value}, case.body, invocation_cid=token_cid(case.token)
        )
    assert field == refusal.value.field


def test_an_answer_of_another_type_is_refused() -> None:
    """An answer of another type is refused before its other members are checked."""
    case = decrypts()[0]
    with pytest.raises(InvalidResponse):
        verify_answer({**case.answer, "type": "x"}, case.body, invocation_cid=token_cid(case.token))


@pytest.mark.parametrize(
    "change",
    [
        {"wrappedKey": "AAAA"},
        {"note": "unsigned"},
        {"nodeSignature": "AAAA"},
        {"nodeSignature": None},
        {"nodeSignature": base64.b64encode(bytes(64)).decode()},
    ],
)
def test_what_the_node_did_not_sign_is_refused(change: dict[str, Any]) -> None:
    """An answer with a changed, added or replaced member fails the signature check."""
    case = decrypts()[0]
    with pytest.raises(ResponseSignatureInvalid):
        verify_answer({**case.answer, **change}, case.body, invocation_cid=token_cid(case.token))


def test_an_answer_to_another_token_is_refused() -> None:
    """An answer is refused if it names another token than the request's."""
    first, second = decrypts()[:2]
    with pytest.raises(ResponseBindingMismatch) as refusal:
        verify_answer(first.answer, first.body, invocation_cid=token_cid(second.token))
    assert refusal.value.field == "invocationCid"


def test_sign_in_texts_equal_the_recorded_ones() -> None:
    """For the same grants, our sign-in text equals the other client's."""
    compared = 0
    for scenario in ("signin", "secrets", "encryption", "delegation"):
        for one in exchanges(scenario):
            header = authorization(one)
            if one["request"]["path"] != "/delegate" or header is None or "." in header:
                continue
            recorded = parse_cacao(header_bytes(header)).message
            recap = recap_of(recorded)
            assert recap is not None
            delegation = parse_delegation(header)
            wallet = new_wallet()
            ours = parse_cacao(
                header_bytes(
                    sign_message(
                        wallet,
                        CountingEntropy(),
                        domain=recorded.domain,
                        uri=recorded.uri,
                        issued_at=delegation.issued_at or 0.0,
                        expires_at=delegation.expires_at,
                        capabilities=delegation.capabilities,
                        parents=[parent.echo for parent in delegation.parents],
                    )
                )
            ).message
            assert recorded.statement == ours.statement
            assert recorded.resources == ours.resources
            assert recorded.uri == ours.uri
            assert recorded.issued_at == ours.issued_at
            assert recorded.expiration_time == ours.expiration_time
            assert len(recorded.nonce) == len(ours.nonce)
            compared += 1
    assert compared > 20


def test_the_secrets_of_a_sign_in_are_asked_for_alike() -> None:
    """Our sign-in and the recorded one request the same abilities on the same secrets path."""
    header = next(
        header
        for one in exchanges("signin")
        if one["request"]["path"] == "/delegate" and (header := authorization(one)) is not None
    )
    recorded = {(one.resource.text, one.ability) for one in read_grant(header).capabilities}
    secrets = next(
        resource for resource, _ in recorded if resource.endswith(":secrets/kv/vault/secrets/")
    )
    assert {(secrets, ability) for ability in KV_ABILITIES} <= recorded
    assert all(allow(resource, ability).resource.text == resource for resource, ability in recorded)


def test_recorded_ids_are_computed_alike() -> None:
    """Our client computes the same delegation id as the node returned (J4)."""
    compared = 0
    for scenario in ("signin", "delegation"):
        for one in exchanges(scenario):
            header = authorization(one)
            if (
                one["request"]["path"] == "/delegate"
                and one["response"]["status"] == 200
                and header is not None
            ):
                assert json.loads(text_of(one["response"]["body"]))["cid"] == read_grant(header).cid
                compared += 1
    assert compared > 10


def test_times_are_written_with_milliseconds() -> None:
    """Our client writes times with milliseconds, as other clients do."""
    assert iso_time(1795159156.933) == "2026-11-20T07:19:16.933Z"
    assert iso_time(1795159156) == "2026-11-20T07:19:16.000Z"


def test_a_recap_is_the_last_resource() -> None:
    """The ReCap is the last resource of a sign-in text (S1)."""
    signed = parse_cacao(
        header_bytes(
            sign_message(
                new_wallet(),
                CountingEntropy(),
                domain="app.example",
                uri="did:key:z6Mk",
                issued_at=0,
                expires_at=None,
                capabilities=[allow("tinycloud:key:z6Mk:default/kv", "tinycloud.kv/get")],
                resources=("urn:example:first",),
            )
        )
    ).message
    assert signed.resources[0] == "urn:example:first"
    assert signed.resources[-1].startswith(PREFIX)


def test_all_errors_have_codes_of_their_own() -> None:
    """Each error code belongs to one class."""

    def family(kind: type[SealspaceError]) -> list[type[SealspaceError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in family(child))]

    codes = [kind.code for kind in family(SealspaceError)]
    assert len(codes) == len(set(codes))


def _space_id(owner: str, name: str) -> str:
    return space_of(owner, name).text


ACCEPTANCE: dict[str, Json] = {
    "app_id": "xyz.acceptance.notes",
    "name": "Notes",
    "secrets": {
        "API_KEY": True,
        "SOURCE_TOKENS": {"scope": "notes", "actions": ["read", "write", "delete"]},
    },
}


def test_a_manifest_crosses_into_the_recorded_sign_ins_byte_for_byte() -> None:
    """Our client makes the recorded sign-in's sentence and ReCap from the app's manifest (MF7,
    MF10)."""
    request = compose_manifests(
        [parse_manifest(ACCEPTANCE)], include_account_registry_permissions=False
    )
    compared = 0
    for one in json_lines(shared_vectors("wire/sign-ins.jsonl")):
        recorded = parse_cacao(header_bytes(one["authorization"])).message
        if one["kind"] != "sign-in" or "xyz.acceptance.notes" not in (recorded.statement or ""):
            continue
        delegation = parse_delegation(one["authorization"])
        wanted = requested_capabilities(
            request.resources, space_id=partial(_space_id, delegation.delegator)
        )
        networks = [
            held for held in delegation.capabilities if network_of(held.resource) is not None
        ]
        ours = parse_cacao(
            header_bytes(
                sign_message(
                    new_wallet(),
                    CountingEntropy(),
                    domain=recorded.domain,
                    uri=recorded.uri,
                    issued_at=delegation.issued_at or 0.0,
                    expires_at=delegation.expires_at,
                    capabilities=[*wanted, *networks],
                )
            )
        ).message
        assert recorded.statement == ours.statement
        assert recorded.resources == ours.resources
        compared += 1
    assert compared > 4
