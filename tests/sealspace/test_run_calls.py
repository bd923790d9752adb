"""Tests of calls to a runner, each of which breaks one rule (RN60 to RN64)."""

import hashlib
from typing import Any

import pytest
from capability_cases import BOB, NOW, OWNER, SESSION, granted, ucan
from hypothesis import given
from hypothesis import strategies as st
from libipld import decode_multibase, encode_multibase

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.cids import parse_cid
from capabilities.clock_and_entropy import SystemEntropy
from capabilities.facts import statement_resource
from capabilities.recap import Recap, attach
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.siwe import SiweMessage
from capabilities.strict_base64 import encode_url
from sealspace.apps.run_calls import (
    CALL,
    MAX_TOKEN_CHARS,
    SIGN_IN_HEADER,
    Call,
    RunnerAt,
    call_headers,
    read_call,
)
from sealspace.errors import CallRefused, InvalidPortableDelegation
from sealspace.session import Session, iso_time, key_session, read_grant

RUNNER = Ed25519Signer(bytes(range(100, 132))).did
START = encode_url(bytes(range(32)))
PROGRAM = f"{BOB.did}/digest"
BODY = b'{"input":"x"}'
KEY = SESSION
KEY_SPACE = f"tinycloud:{KEY.did[4:]}:default"
WALLET_SPACE = f"tinycloud:{OWNER.did[4:]}:default"


def fact(**members: Any) -> dict[str, Any]:
    stated = {
        "type": "sealspace.run.call/v1",
        "program": PROGRAM,
        "bodySha256": encode_url(hashlib.sha256(BODY).digest()),
        "runner": RUNNER,
        "start": START,
    }
    return stated | members


def token(
    att: Any = None,
    *,
    facts: list[Any] | None = None,
    audience: str = RUNNER,
    exp: float = NOW + 60,
    **more: Any,
) -> str:
    held = {f"{KEY_SPACE}/run/{PROGRAM}": [CALL]} if att is None else att
    return ucan(
        KEY, audience, held, fct=[fact()] if facts is None else facts, exp=exp, nnc="1", **more
    )


def sign_in(
    *,
    wallet: WalletSigner = OWNER,
    delegate: str = KEY.did,
    age_s: float = 60,
    parents: tuple[str, ...] = (),
    right: str = CALL,
    resources: tuple[str, ...] = (),
) -> str:
    message = SiweMessage(
        domain="localhost",
        address=wallet.address,
        chain_id=1,
        uri=delegate,
        nonce="abcdefgh12345678",
        issued_at=iso_time(NOW - age_s),
        expiration_time=iso_time(NOW - age_s + 7 * 86400),
        resources=resources,
    )
    held: Any = granted({f"tinycloud:{wallet.did[4:]}:default/run": [right]})
    return header_text(encode_cacao(sign_cacao(attach(message, Recap(held, parents)), wallet)))


def by_wallet(proof: str, *, space: str = WALLET_SPACE, cited: str | None = None) -> str:
    return token({f"{space}/run/{PROGRAM}": [CALL]}, prf=[cited or read_grant(proof).cid])


def read(header: str, proof: str | None = None, **more: Any) -> Call:
    asked: dict[str, Any] = {"program": PROGRAM, "body": BODY, "runner": RUNNER, "now": NOW} | more
    call = read_call(header, proof, runner=asked["runner"], now=asked["now"])
    call.require(asked["program"], asked["body"])
    return call


def test_a_key_and_a_wallet_call() -> None:
    assert read(token()).caller == KEY.did
    proof = sign_in()
    assert read(by_wallet(proof), proof).caller == OWNER.did
    assert read(token()).token == read(token()).token != read(by_wallet(proof), proof).token


def test_the_sdk_makes_such_calls() -> None:
    entropy = SystemEntropy()
    for session, caller in (
        (key_session(KEY), KEY.did),
        (
            Session(
                KEY,
                owner=read(by_wallet(sign_in()), sign_in()).caller,
                grants=(read_grant(sign_in()),),
            ),
            OWNER.did,
        ),
    ):
        headers = call_headers(
            session,
            runner=RunnerAt(RUNNER, START),
            program=PROGRAM,
            body=BODY,
            now=NOW,
            entropy=entropy,
        )
        call = read(headers["Authorization"], headers.get(SIGN_IN_HEADER))
        assert call.caller == caller
        assert call.runner == RunnerAt(RUNNER, START)


@pytest.mark.parametrize(
    "header",
    [
        token(audience=BOB.did),  # RN60
        token({f"{KEY_SPACE}/run/{BOB.did}/other": [CALL]}),  # RN61
        token({f"{KEY_SPACE}/run": [CALL]}),
        token({f"{KEY_SPACE}/kv/{PROGRAM}": [CALL]}),
        token({f"{KEY_SPACE}/run/{PROGRAM}?x": [CALL]}),
        token({f"{KEY_SPACE}/run/{PROGRAM}": ["tinycloud.kv/get"]}),
        token({f"{KEY_SPACE}/run/{PROGRAM}": [CALL], f"{KEY_SPACE}/kv/a": ["tinycloud.kv/get"]}),
        token({f"{KEY_SPACE}/run/{PROGRAM}": {CALL: [{"path": "x"}]}}),
        token(facts=[]),  # RN62
        token(facts=[fact(), fact()]),
        token(facts=[fact(program=f"{BOB.did}/other")]),
        token(facts=[fact(bodySha256=encode_url(bytes(32)))]),
        token(facts=[fact(runner=BOB.did)]),
        token(facts=[fact(more=1)]),
        token(facts=[fact(start=7)]),  # RN178
        token(facts=[{name: value for name, value in fact().items() if name != "start"}]),
        token(facts=["start"]),
        token(facts=[fact(type="sealspace.run.call/v2")]),
        # RN63: somebody else's space
        token({f"tinycloud:{BOB.did[4:]}:default/run/{PROGRAM}": [CALL]}),
        token(exp=NOW - 1),
        token(exp=NOW + 400),
        token()[:-8] + "AAAAAAAA",
        token(prf=[read_grant(sign_in()).cid]),  # cites what it does not bring
        "x" * (MAX_TOKEN_CHARS + 1),
        sign_in(),
        "",
    ],
)
def test_calls_that_are_refused(header: str) -> None:
    with pytest.raises(CallRefused):
        read(header)


@pytest.mark.parametrize(
    ("members", "value"),
    [
        ("body", BODY + b" "),
        ("program", f"{BOB.did}/other"),
        ("runner", BOB.did),
        ("now", NOW + 61),
    ],
)
def test_a_call_is_for_one_body_program_runner_and_minute(members: str, value: Any) -> None:
    with pytest.raises(CallRefused):
        read(token(), **{members: value})


OTHER = WalletSigner(bytes(range(1, 33)))


@pytest.mark.parametrize(
    "proof",
    [
        sign_in(age_s=24 * 3600 + 1),  # RN64
        sign_in(age_s=-61),
        sign_in(delegate=BOB.did),
        sign_in(right="tinycloud.kv/get"),
        # for attested code alone
        sign_in(resources=(statement_resource({"receiver": "attested"}),)),
        ucan(KEY, KEY.did, {f"{KEY_SPACE}/run": [CALL]}),  # no wallet's
        "x" * (MAX_TOKEN_CHARS + 1),
        "",
    ],
)
def test_sign_ins_that_are_refused(proof: str) -> None:
    try:
        cited = read_grant(proof).cid
    except InvalidPortableDelegation:
        cited = read_grant(sign_in()).cid
    with pytest.raises(CallRefused):
        read(by_wallet(sign_in(), cited=cited), proof)


def test_a_sign_in_speaks_for_its_own_wallet_alone() -> None:
    mine, others = sign_in(), sign_in(wallet=OTHER)
    for header, proof in (
        (by_wallet(others), others),  # about the space of another wallet than the sign-in's
        (by_wallet(mine), others),  # cites one, brings another
        (token(), mine),  # cites none
        (token(prf=[read_grant(mine).cid]), mine),  # the key's own space
        (token({f"{WALLET_SPACE}/run/{PROGRAM}": [CALL]}, prf=[read_grant(mine).cid] * 2), mine),
    ):
        with pytest.raises(CallRefused):
            read(header, proof)


def test_a_sign_in_that_rests_on_another_delegation_is_refused() -> None:
    parent = read_grant(sign_in()).cid
    proof = sign_in(parents=(encode_multibase("z", decode_multibase(parse_cid(parent).text())[1]),))
    with pytest.raises(CallRefused, match="have no parent delegation"):
        read(by_wallet(proof), proof)


@given(st.text(max_size=200), st.none() | st.text(max_size=200))
def test_fuzz_calls(header: str, proof: str | None) -> None:
    with pytest.raises(CallRefused):
        read(header, proof)
