"""Vectors of single tokens: their contents when verified, or the reason of their refusal."""

from collections.abc import Callable, Mapping
from typing import Any

import dag_cbor
from blake3 import blake3

from .cases import Case
from .minting import (
    NOW,
    YEAR_LATER,
    Jwt,
    Key,
    SignIn,
    Token,
    Wallet,
    b64url,
    base58,
    cacao,
    cid,
    cid58,
    compact,
    jws,
    keccak,
    plain,
    sentence,
    siwe_text,
    sorted_json,
)

ALICE = Wallet(0x11)
SESSION = Key(0x21)
BOB = Key(0x31)
SPACE = f"tinycloud:pkh:eip155:1:{ALICE.address}:default"
_KV = f"{SPACE}/kv"
_ATT = {_KV: plain("tinycloud.kv/get", "tinycloud.kv/put")}
_YEAR_LATER_S = NOW + 365 * 86_400
_PARENT = cid(b"a parent")
_ORDER_SECP256K1 = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_ORDER_ED25519 = 2**252 + 27742317777372353535851937790883648493


def cases() -> list[Case]:
    """Return all cases of single tokens."""
    return [
        *_sign_ins(),
        *_broken_cacaos(),
        *_broken_recaps(),
        *_jwts(),
        *_broken_jwts(),
        *_revocations(),
    ]


def _case(name: str, rules: str, kind: str, header: str, expect: Mapping[str, Any]) -> Case:
    return {
        "name": name,
        "rules": rules.split(),
        "kind": kind,
        "token": header,
        "expect": dict(expect),
    }


def _malformed(name: str, rules: str, header: str, kind: str = "delegation") -> Case:
    return _case(f"{name}_fail", rules, kind, header, {"code": "token-malformed"})


def _of_another_kind(name: str, rules: str, header: str) -> Case:
    return _case(
        f"{name}_fail",
        rules,
        "revocation",
        header,
        {"code": "token-kind", "text": "Token of another kind"},
    )


def _unsigned(name: str, rules: str, header: str, kind: str = "delegation") -> Case:
    return _case(
        f"{name}_fail",
        rules,
        kind,
        header,
        {"code": "signature-invalid", "text": "Failed to verify signature"},
    )


def _content_key(label: str, signer: str, signed: bytes) -> str:
    return blake3(
        f"sealspace/{label}/v1".encode() + b"\0" + signer.encode() + b"\0" + signed
    ).hexdigest()


def _sign_in_expect(token: Token, payload: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    text = siwe_text(payload, ALICE.address).encode()
    digest = keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)
    return {
        "cid": token.cid,
        "content_key": _content_key("content/cacao", ALICE.did, digest),
        "delegator": ALICE.did,
        "delegate": SESSION.did,
        "capabilities": [[_KV, "tinycloud.kv/get", {}], [_KV, "tinycloud.kv/put", {}]],
        "parents": [],
        "expires_at": _YEAR_LATER_S,
        "not_before": None,
        "terminal": False,
        **changes,
    }


def _jwt_expect(token: Token, issuer: Key = SESSION, **changes: Any) -> dict[str, Any]:
    signing_input = token.header.rpartition(".")[0].encode()
    return {
        "cid": token.cid,
        "content_key": _content_key("content/ucan", issuer.did, signing_input),
        "delegator": issuer.did,
        "delegate": BOB.did,
        "capabilities": [[_KV, "tinycloud.kv/get", {}], [_KV, "tinycloud.kv/put", {}]],
        "parents": [],
        "expires_at": NOW + 60,
        "not_before": None,
        "terminal": False,
        **changes,
    }


def _sign_in(**changes: Any) -> SignIn:
    return SignIn(**{"wallet": ALICE, "audience": SESSION.url, "att": _ATT, **changes})


def _signed(payload: Mapping[str, Any]) -> Token:
    return cacao(payload, ALICE.sign(siwe_text(payload, ALICE.address)))


def _sign_ins() -> list[Case]:
    ordinary = _sign_in()
    payload, token = ordinary.payload(), ordinary.mint()
    signature = ALICE.sign(siwe_text(payload, ALICE.address))
    low_v = cacao(payload, signature[:64] + bytes([signature[64] - 27]))
    lower = {**payload, "iss": ALICE.did.lower()}
    lower_token = cacao(lower, signature)
    endless = _sign_in(exp=None)
    null_exp = {**endless.payload(), "exp": None}
    greeting = _sign_in(statement="Hello. " + sentence(_ATT))
    no_recap = {**payload, "resources": ["urn:x:y"], "statement": "Hello."}
    recap_first = {
        **payload,
        "resources": [payload["resources"][0], "urn:x:y"],
        "statement": "Hello.",
    }
    chain_0 = _sign_in(iss=ALICE.did.replace(":1:", ":0:"))
    bounded = _sign_in(
        nbf="2026-11-18t11:06:40+00:00", exp="2027-11-18 11:06:40.000000Z", prf=[cid58(b"a parent")]
    )
    policy = "urn:sealspace:attestation:v1:" + b64url(sorted_json({"inPerson": False}))
    with_policy = _sign_in(before_recap=[policy])
    # The signature over this nonce begins with 01 01 7a 3c: CID version 1, a codec, a hash code, a
    # length that fits.
    like_a_cid = _sign_in(nonce="vectornonce283")
    in_chain_0 = ALICE.did.replace(":1:", ":0:")
    chain_0_text = siwe_text(chain_0.payload(), ALICE.address).encode()
    chain_0_digest = keccak(
        b"\x19Ethereum Signed Message:\n" + str(len(chain_0_text)).encode() + chain_0_text
    )
    return [
        _case(
            "alice-to-session",
            "C1 C3 C5 E3 E6 E7 S8 S9 S10 P1",
            "delegation",
            token.header,
            _sign_in_expect(token, payload),
        ),
        _case(
            "alice-to-session-v-0",
            "C5 E9",
            "delegation",
            low_v.header,
            _sign_in_expect(low_v, payload),
        ),
        _case(
            "alice-to-session-lower-case-address",
            "E9 P6",
            "delegation",
            lower_token.header,
            _sign_in_expect(lower_token, payload),
        ),
        _case(
            "alice-to-session-signature-reads-as-cid",
            "C1 C5",
            "delegation",
            like_a_cid.mint().header,
            _sign_in_expect(like_a_cid.mint(), like_a_cid.payload()),
        ),
        _case(
            "alice-to-session-null-for-absent",
            "C2 C8",
            "delegation",
            _signed(null_exp).header,
            _sign_in_expect(_signed(null_exp), endless.payload(), expires_at=None),
        ),
        _case(
            "alice-to-session-with-greeting",
            "S7",
            "delegation",
            greeting.mint().header,
            _sign_in_expect(greeting.mint(), greeting.payload()),
        ),
        _case(
            "alice-to-session-without-recap",
            "S1",
            "delegation",
            _signed(no_recap).header,
            _sign_in_expect(_signed(no_recap), no_recap, capabilities=[]),
        ),
        _case(
            "alice-to-session-recap-not-last",
            "S1",
            "delegation",
            _signed(recap_first).header,
            _sign_in_expect(_signed(recap_first), recap_first, capabilities=[]),
        ),
        _case(
            "alice-to-session-on-chain-0",
            "C9",
            "delegation",
            chain_0.mint().header,
            _sign_in_expect(
                chain_0.mint(),
                chain_0.payload(),
                delegator=in_chain_0,
                content_key=_content_key("content/cacao", in_chain_0, chain_0_digest),
            ),
        ),
        _case(
            "alice-to-session-bounded-with-parent",
            "C10 S6",
            "delegation",
            bounded.mint().header,
            _sign_in_expect(bounded.mint(), bounded.payload(), not_before=NOW, parents=[_PARENT]),
        ),
        _case(
            "alice-to-session-with-policy",
            "S1 RL8",
            "delegation",
            with_policy.mint().header,
            _sign_in_expect(
                with_policy.mint(),
                with_policy.payload(),
                facts=[{"sealspace.attestation/v1": {"inPerson": False}}],
            ),
        ),
    ]


def _in_two_texts(data: bytes) -> str:
    """Return base64 of the first four bytes with its padding, followed by that of the rest."""
    return b64url(data[:4], padded=True) + b64url(data[4:], padded=True)


def _broken_cacaos() -> list[Case]:
    payload = _sign_in().payload()
    signature = ALICE.sign(siwe_text(payload, ALICE.address))
    token = cacao(payload, signature)
    text = token.header
    high_s = signature[:32] + (_ORDER_SECP256K1 - int.from_bytes(signature[32:64], "big")).to_bytes(
        32, "big"
    )
    high_s += bytes([55 - signature[64]])
    envelope: dict[str, Any] = {
        "h": {"t": "eip4361"},
        "p": dict(payload),
        "s": {"t": "eip191", "s": signature},
    }

    def changed(change: Callable[[dict[str, Any]], None]) -> str:
        copy: dict[str, Any] = {name: dict(part) for name, part in envelope.items()}
        change(copy)
        return b64url(dag_cbor.encode(copy), padded=True)

    def drop_nonce(copy: dict[str, Any]) -> None:
        del copy["p"]["nonce"]

    def in_payload(**members: Any) -> str:
        return _signed({**payload, **members}).header

    spare = text.rstrip("=")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    respelled = spare[:-1] + last[last.index(spare[-1]) + 1] + "=" * (len(text) - len(spare))
    # Canonical bytes hold `version` 1 as 0x01 behind its key; 0x18 0x01 is the same number in a
    # longer form.
    long_integer = token.event_bytes.replace(b"gversion\x01", b"gversion\x18\x01")
    byte_text = token.event_bytes.replace(b"enonce\x6c", b"enonce\x4c")
    head = b"\xa1at" + dag_cbor.encode("eip4361")
    other_order = (
        b"\xa3ap"
        + dag_cbor.encode(dict(payload))
        + b"ah"
        + head
        + b"as"
        + dag_cbor.encode(envelope["s"])
    )
    return [
        _malformed("alice-to-session-unpadded", "E3", spare if len(spare) % 4 else spare[:-1]),
        _malformed(
            "alice-to-session-standard-alphabet", "E3", text.replace("-", "+").replace("_", "/")
        ),
        _malformed("alice-to-session-spare-bits", "E3", respelled),
        _malformed("alice-to-session-padding-inside", "E3", _in_two_texts(token.event_bytes)),
        _malformed("alice-to-session-bearer", "E1", f"Bearer {text}"),
        _malformed(
            "alice-to-session-trailing-byte", "C1", b64url(token.event_bytes + b"\0", padded=True)
        ),
        _malformed("alice-to-session-keys-in-other-order", "C1", b64url(other_order, padded=True)),
        _malformed("alice-to-session-long-integer", "C1", b64url(long_integer, padded=True)),
        _malformed("alice-to-session-bytes-for-text", "C2", b64url(byte_text, padded=True)),
        _malformed("alice-to-session-extra-key", "C2", changed(lambda e: e["p"].update(extra="x"))),
        _malformed("alice-to-session-extra-part", "C2", changed(lambda e: e.update(x={}))),
        _malformed("alice-to-session-nonce-missing", "C2", changed(drop_nonce)),
        _malformed(
            "alice-to-session-signature-of-64-bytes",
            "C3",
            changed(lambda e: e["s"].update(s=signature[:64])),
        ),
        _malformed(
            "alice-to-session-signature-as-array",
            "C4",
            changed(lambda e: e["s"].update(s=list(signature))),
        ),
        _malformed(
            "alice-to-session-other-signature-type",
            "C3",
            changed(lambda e: e["s"].update(t="eip1271")),
        ),
        _malformed(
            "alice-to-session-other-header-type",
            "C3",
            changed(lambda e: e["h"].update(t="caip122")),
        ),
        _malformed("alice-to-session-version-as-text", "C4", in_payload(version="1")),
        _malformed("alice-to-session-version-2", "C2", in_payload(version=2)),
        _malformed("alice-to-session-newline-in-nonce", "C7", in_payload(nonce="vector\nURI: x")),
        _malformed(
            "alice-to-session-control-in-statement",
            "C7",
            in_payload(statement="\x7f" + sentence(_ATT)),
        ),
        _malformed(
            "alice-to-session-1025-resources", "C11", in_payload(resources=["urn:x:y"] * 1025)
        ),
        _malformed("alice-to-session-domain-with-slash", "C2", in_payload(domain="app.example/x")),
        _malformed(
            "alice-to-session-chain-a-word",
            "C9",
            changed(lambda e: e["p"].update(iss=ALICE.did.replace(":1:", ":one:"))),
        ),
        _malformed(
            "alice-to-session-date-that-is-none", "C10", in_payload(exp="2027-02-29T00:00:00Z")
        ),
        _malformed(
            "alice-to-session-time-without-zone", "C10", in_payload(exp="2027-11-18T11:06:40")
        ),
        _malformed("alice-to-session-hour-24", "C10", in_payload(exp="2027-11-18T24:00:00Z")),
        _unsigned("alice-to-session-high-s", "C5 E9", cacao(payload, high_s).header),
        _unsigned("alice-to-session-v-2", "C5", cacao(payload, signature[:64] + b"\x02").header),
        _unsigned(
            "alice-to-session-v-54",
            "C5",
            cacao(payload, signature[:64] + bytes([signature[64] + 27])).header,
        ),
        _unsigned(
            "alice-to-session-other-nonce",
            "C5",
            cacao({**payload, "nonce": "othernonce01"}, signature).header,
        ),
        _unsigned(
            "alice-to-session-signed-by-another",
            "C5",
            cacao(payload, Wallet(0x12).sign(siwe_text(payload, ALICE.address))).header,
        ),
    ]


def _broken_recaps() -> list[Case]:
    def with_recap(recap: bytes | str, statement: str | None = None) -> str:
        uri = "urn:recap:" + (recap if isinstance(recap, str) else b64url(recap))
        payload = {
            **_sign_in().payload(),
            "resources": [uri],
            "statement": statement or sentence(_ATT),
        }
        return _signed(payload).header

    good = sorted_json({"att": _ATT, "prf": []})
    caveat = {_KV: {"tinycloud.kv/get": [{"k": 1}], "tinycloud.kv/put": [{}]}}
    empty = {_KV: {"tinycloud.kv/get": [], "tinycloud.kv/put": [{}]}}
    null_caveat = _sign_in(att={_KV: {"tinycloud.kv/get": [{"k": None}], "tinycloud.kv/put": [{}]}})
    no_ability = _sign_in(att={**_ATT, f"{SPACE}/sql": {}})
    return [
        _case(
            "alice-to-session-caveat-of-null",
            "S5",
            "delegation",
            null_caveat.mint().header,
            _sign_in_expect(null_caveat.mint(), null_caveat.payload()),
        ),
        _case(
            "alice-to-session-resource-without-ability",
            "S4 S8",
            "delegation",
            no_ability.mint().header,
            _sign_in_expect(no_ability.mint(), no_ability.payload()),
        ),
        _malformed(
            "alice-to-session-statement-altered",
            "S7",
            with_recap(good, sentence(_ATT).replace("put", "del")),
        ),
        _malformed(
            "alice-to-session-text-after-sentence", "S7", with_recap(good, sentence(_ATT) + " Bye.")
        ),
        _malformed(
            "alice-to-session-caveat-with-value",
            "S5",
            with_recap(sorted_json({"att": caveat, "prf": []})),
        ),
        _malformed(
            "alice-to-session-caveat-list-empty",
            "S4",
            with_recap(sorted_json({"att": empty, "prf": []})),
        ),
        _malformed(
            "alice-to-session-proof-in-base32",
            "S6",
            with_recap(sorted_json({"att": _ATT, "prf": [_PARENT]})),
        ),
        _malformed("alice-to-session-prf-missing", "S2", with_recap(sorted_json({"att": _ATT}))),
        _malformed(
            "alice-to-session-att-repeated",
            "S4",
            with_recap(good[:-1] + b',"att":{}}', sentence({})),
        ),
        _malformed(
            "alice-to-session-recap-padded",
            "S2",
            with_recap(b64url(b'{"att":{},"prf":[] }', padded=True), sentence({})),
        ),
        _malformed("alice-to-session-recap-as-array", "Q35", with_recap(sorted_json([_ATT, []]))),
        _malformed(
            "alice-to-session-policy-of-unknown-version",
            "RL8",
            _sign_in(before_recap=["urn:sealspace:attestation:v2:" + b64url(b"{}")]).mint().header,
        ),
        _malformed(
            "alice-to-session-policy-that-is-no-object",
            "RL8",
            _sign_in(before_recap=["urn:sealspace:attestation:v1:" + b64url(b"[]")]).mint().header,
        ),
    ]


def _jwt(**changes: Any) -> Jwt:
    return Jwt(**{"issuer": SESSION, "audience": BOB.did, "att": _ATT, **changes})


def _jwts() -> list[Case]:
    ordinary = _jwt().mint()
    with_jwk = _jwt(
        header={"jwk": {"kty": "OKP", "crv": "Ed25519", "x": b64url(bytes(32))}, "kid": "x"}
    ).mint()
    fraction = _jwt(exp=NOW + 60.5, nbf=NOW - 0.5).mint()
    two = _jwt(att={_KV: {"tinycloud.kv/get": [{"a": 1}, {"b": 2}]}}).mint()
    twice_none = _jwt(att={_KV: {"tinycloud.kv/get": [{}, {}]}}).mint()
    terminal = _jwt(fct=["x", {"xyz.tinycloud.policy/delegationMode": "terminal"}]).mint()
    other_mode = _jwt(fct=[{"xyz.tinycloud.policy/delegationMode": "other"}]).mint()
    lower = SPACE.replace(ALICE.address, ALICE.address.lower())
    merged = _jwt(
        att={
            _KV: plain("tinycloud.kv/get"),
            f"{lower}/kv": plain("tinycloud.kv/put", "tinycloud.kv/get"),
        }
    ).mint()
    bare = _jwt(iss=SESSION.did).mint()
    parents = _jwt(prf=[_PARENT, cid58(b"another")]).mint()
    sorted_att = _jwt(
        att={f"{SPACE}/kv/b": plain("tinycloud.kv/put"), f"{SPACE}/kv/a": plain("b/b", "a/a")}
    ).mint()
    unknown_twice = jws(
        compact({"alg": "EdDSA", "typ": "JWT", "ucv": "0.10.0"}),
        compact(_claims())[:-1] + b',"x":1,"x":2}',
        SESSION,
    )
    invocation = _jwt(
        nonce="urn:uuid:00000000-0000-4000-8000-000000000001", audience=SESSION.did
    ).mint()
    signing_input = invocation.header.rpartition(".")[0].encode()
    return [
        _case(
            "session-to-bob",
            "E2 E6 T3 T5 K1 K2",
            "delegation",
            ordinary.header,
            _jwt_expect(ordinary),
        ),
        _case(
            "session-to-bob-foreign-jwk", "K8", "delegation", with_jwk.header, _jwt_expect(with_jwk)
        ),
        _case(
            "session-to-bob-issuer-without-fragment",
            "K1",
            "delegation",
            bare.header,
            _jwt_expect(bare),
        ),
        _case(
            "session-to-bob-fractions",
            "T4",
            "delegation",
            fraction.header,
            _jwt_expect(fraction, expires_at=NOW + 60.5, not_before=NOW - 0.5),
        ),
        _case(
            "session-to-bob-two-caveats",
            "T2",
            "delegation",
            two.header,
            _jwt_expect(
                two, capabilities=[[_KV, "tinycloud.kv/get", {"0": {"a": 1}, "1": {"b": 2}}]]
            ),
        ),
        _case(
            "session-to-bob-two-empty-caveats",
            "T2",
            "delegation",
            twice_none.header,
            _jwt_expect(twice_none, capabilities=[[_KV, "tinycloud.kv/get", {"0": {}, "1": {}}]]),
        ),
        _case(
            "session-to-bob-terminal",
            "D24",
            "delegation",
            terminal.header,
            _jwt_expect(terminal, terminal=True),
        ),
        _case(
            "session-to-bob-other-mode",
            "D24",
            "delegation",
            other_mode.header,
            _jwt_expect(other_mode),
        ),
        _case(
            "session-to-bob-two-spellings-of-a-resource",
            "U6 Q19",
            "delegation",
            merged.header,
            _jwt_expect(merged),
        ),
        _case(
            "session-to-bob-parents",
            "E8",
            "delegation",
            parents.header,
            _jwt_expect(parents, parents=[_PARENT, cid(b"another")]),
        ),
        _case(
            "session-to-bob-sorted",
            "A2 T7",
            "delegation",
            sorted_att.header,
            _jwt_expect(
                sorted_att,
                capabilities=[
                    [f"{SPACE}/kv/a", "a/a", {}],
                    [f"{SPACE}/kv/a", "b/b", {}],
                    [f"{SPACE}/kv/b", "tinycloud.kv/put", {}],
                ],
            ),
        ),
        _case(
            "session-to-bob-unknown-member-repeated",
            "T7",
            "delegation",
            unknown_twice.header,
            _jwt_expect(unknown_twice),
        ),
        _case(
            "session-invokes",
            "I1 T8 I20",
            "invocation",
            invocation.header,
            {
                "cid": invocation.cid,
                "content_key": _content_key("content/ucan", SESSION.did, signing_input),
                "invoker": SESSION.did,
                "nonce": "urn:uuid:00000000-0000-4000-8000-000000000001",
            },
        ),
    ]


def _claims(**changes: Any) -> dict[str, Any]:
    claims = {"iss": SESSION.url, "aud": BOB.did, "exp": NOW + 60, "prf": [], "att": _ATT}
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def _broken_jwts() -> list[Case]:
    head = compact({"alg": "EdDSA", "typ": "JWT", "ucv": "0.10.0"})

    def raw(payload: bytes, header: bytes = head) -> str:
        return jws(header, payload, SESSION).header

    def claims(**changes: Any) -> str:
        return raw(compact(_claims(**changes)))

    token = _jwt().mint().header
    signing_input, _, signature = token.rpartition(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = token[:-1] + alphabet[alphabet.index(token[-1]) + 1]
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    own = SESSION.sign(signing_input.encode())
    large_s = (int.from_bytes(own[32:], "little") + _ORDER_ED25519).to_bytes(32, "little")
    small_order = "did:key:z" + base58(b"\xed\x01\x01" + bytes(31))
    secp256k1 = "did:key:z" + base58(b"\xe7\x01\x02" + bytes(31) + b"\x01")
    payload = compact(_claims())
    return [
        _malformed("session-to-bob-bearer", "E1", f"Bearer {token}"),
        _malformed("session-to-bob-two-parts", "E2", signing_input),
        _malformed("session-to-bob-four-parts", "E2", f"{token}.x"),
        _malformed("session-to-bob-padded", "E3", f"{token}=="),
        _malformed("session-to-bob-spare-bits", "E9", spare),
        _malformed("session-to-bob-typ-missing", "T7", _jwt(header={"typ": None}).mint().header),
        _malformed(
            "session-to-bob-typ-in-lower-case", "E5", _jwt(header={"typ": "jwt"}).mint().header
        ),
        _malformed("session-to-bob-ucv-0.9", "E5", _jwt(header={"ucv": "0.9.0"}).mint().header),
        _malformed("session-to-bob-alg-unknown", "K7", _jwt(header={"alg": "XXX"}).mint().header),
        _malformed("session-to-bob-crit", "E5", _jwt(header={"crit": ["exp"]}).mint().header),
        _malformed("session-to-bob-b64-false", "E5", _jwt(header={"b64": False}).mint().header),
        _malformed("session-to-bob-typ-repeated", "T7", raw(payload, head[:-1] + b',"typ":"JWT"}')),
        _malformed(
            "session-to-bob-exp-repeated", "T7", raw(payload[:-1] + f',"exp":{NOW}}}'.encode())
        ),
        _malformed("session-to-bob-exp-missing", "E5", claims(exp=None)),
        _malformed("session-to-bob-exp-as-text", "T6", claims(exp=str(NOW))),
        _malformed("session-to-bob-exp-in-milliseconds", "T6 Q28", claims(exp=253_402_300_800)),
        _malformed("session-to-bob-prf-missing", "E5", claims(prf=None)),
        _malformed("session-to-bob-proof-that-is-none", "E8", claims(prf=["x"])),
        _malformed("session-to-bob-att-as-list", "T1", claims(att=[])),
        _malformed(
            "session-to-bob-resource-that-is-none", "T1", claims(att={"kv/a": plain("a/b")})
        ),
        _malformed("session-to-bob-ability-that-is-none", "A1", claims(att={_KV: plain("get")})),
        _malformed("session-to-bob-caveat-list-empty", "T2", claims(att={_KV: {"a/b": []}})),
        _malformed("session-to-bob-facts-as-object", "E5", claims(fct={})),
        _malformed("session-to-bob-audience-with-fragment", "T5", claims(aud=BOB.url)),
        _malformed("session-to-bob-audience-no-did", "T5", claims(aud="https://example.com")),
        _malformed(
            "session-to-bob-payload-as-array", "Q35", raw(compact(list(_claims().values())))
        ),
        _malformed("session-to-bob-payload-no-json", "E5", raw(b"{")),
        _unsigned("session-to-bob-alg-none", "K7 Q33", _jwt(header={"alg": "none"}).mint().header),
        _unsigned(
            "session-to-bob-alg-of-another-key-type",
            "K7",
            _jwt(header={"alg": "ES256"}).mint().header,
        ),
        _unsigned("session-to-bob-signature-flipped", "D5 K9", f"{signing_input}.{flipped}"),
        _unsigned("session-to-bob-signature-short", "K9", f"{signing_input}.{b64url(own[:63])}"),
        _unsigned(
            "session-to-bob-signature-scalar-out-of-range",
            "K7",
            f"{signing_input}.{b64url(own[:32] + large_s)}",
        ),
        _unsigned("session-to-bob-signed-by-another", "K1", _jwt(iss=BOB.url).mint().header),
        _unsigned(
            "session-to-bob-other-fragment", "K2", _jwt(iss=f"{SESSION.did}#other").mint().header
        ),
        _unsigned("session-to-bob-empty-fragment", "K2", _jwt(iss=f"{SESSION.did}#").mint().header),
        _unsigned(
            "session-to-bob-small-order-key",
            "K7",
            raw(compact(_claims(iss=small_order))).rpartition(".")[0]
            + f".{b64url(bytes([1]) + bytes(63))}",
        ),
        _unsigned(
            "session-to-bob-key-of-another-type",
            "K6",
            _jwt(iss=secp256k1, header={"alg": "ES256K"}).mint().header,
        ),
        _unsigned("session-to-bob-issuer-wallet", "K3", _jwt(iss=ALICE.did).mint().header),
        _unsigned(
            "session-to-bob-issuer-did-web",
            "K4 K5 Q34",
            _jwt(iss="did:web:localhost%3A80#key").mint().header,
        ),
        _malformed("session-invokes-as-cacao", "E4 I1", _sign_in().mint().header, "invocation"),
        _unsigned(
            "session-invokes-signature-flipped", "I3 K9", f"{signing_input}.{flipped}", "invocation"
        ),
    ]


def _revocations() -> list[Case]:
    revoke = "tinycloud.delegation/revoke"
    target = cid(b"a target")
    explicit = _jwt(
        audience=SESSION.did, att={f"urn:cid:{target}": plain(revoke)}, prf=[_PARENT]
    ).mint()
    base58_target = _jwt(
        audience=SESSION.did, att={f"urn:cid:{cid58(b'a target')}": plain(revoke)}
    ).mint()
    two = _jwt(
        audience=SESSION.did, att={f"urn:cid:{t}": plain(revoke) for t in ("x", target)}
    ).mint()
    status = _jwt(
        audience=SESSION.did, att={f"urn:cid:{target}": plain("tinycloud.delegation/status")}
    ).mint()
    helper = _jwt(
        audience=SESSION.did, att={f"{SPACE}/delegation/{target}": plain(revoke)}, prf=[_PARENT]
    ).mint()
    payload = {
        **_sign_in(exp=None).payload(),
        "aud": f"ucan:{target}",
        "statement": "Revoke.",
        "resources": [],
    }
    by_wallet = _signed(payload)
    other = _signed({**payload, "aud": SESSION.did})
    session = {"revoker": SESSION.did, "target": target, "parents": []}
    return [
        _case(
            "session-revokes",
            "V1 V2",
            "revocation",
            explicit.header,
            {**session, "cid": explicit.cid, "parents": [_PARENT]},
        ),
        _case(
            "session-revokes-target-in-base58",
            "E8 W27",
            "revocation",
            base58_target.header,
            {**session, "cid": base58_target.cid},
        ),
        _of_another_kind("session-revokes-two", "V1", two.header),
        _of_another_kind("session-asks-for-the-status", "V1", status.header),
        _of_another_kind(
            "alice-grants-to-a-cid",
            "V3",
            _signed({**_sign_in().payload(), "aud": f"ucan:{target}"}).header,
        ),
        _case(
            "alice-revokes",
            "V3 W23",
            "revocation",
            by_wallet.header,
            {"revoker": ALICE.did, "target": target, "parents": [], "cid": by_wallet.cid},
        ),
        _malformed("session-revokes-without-target", "V1 V4 Q8", helper.header, "revocation"),
        _malformed("alice-revokes-other-audience", "V3", other.header, "revocation"),
    ]


__all__ = ["ALICE", "BOB", "SESSION", "SPACE", "YEAR_LATER", "cases"]
