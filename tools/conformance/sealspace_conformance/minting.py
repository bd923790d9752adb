"""Write `vectors.json`: tokens of fixed keys and times that every node refuses.

python -m sealspace_conformance.minting          write the file
python -m sealspace_conformance.minting --check  fail if it differs
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sealspace_conformance.encodings import (
    b64url,
    canonical_json,
    compact_json,
    dag_cbor,
    from_b64url,
)
from sealspace_conformance.keys import Key, Wallet
from sealspace_conformance.tokens import (
    Grants,
    SignIn,
    Token,
    Ucan,
    cacao,
    jws,
    plain,
    sentence,
    signed_text,
)

NOW = 1_795_000_000
# The end is far away, so that no case is refused for its time.
END = 4_000_000_000
FILE = Path(__file__).with_name("vectors.json")
_ALICE = Wallet(b"\x11" * 32)
_SESSION = Key(b"\x22" * 32)
_BOB = Key(b"\x33" * 32)
_SPACE = f"tinycloud:{_ALICE.did.removeprefix('did:')}:default"
_GRANTS: Grants = {f"{_SPACE}/kv": plain("tinycloud.kv/get", "tinycloud.kv/put")}
_PROOF = "bafkr4icirrvuxv7lh3w2mlk3rlsjqdsw4jftqlcclmgc7abf4hthohxruy"
_UNDECODABLE = "undecodable"
_SIGNATURE = "signature"
_REFUSED = "refused"
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

Case = tuple[str, str, str, str]
"""Rule, what the case is, the expectation, and the token."""


def sign_in(**changes: Any) -> SignIn:
    """Return the sign-in of the cases, with changes."""
    contents: Mapping[str, Any] = {
        "wallet": _ALICE,
        "audience": _SESSION.url,
        "grants": _GRANTS,
        "issued_at": NOW,
        "ends_at": END,
        "nonce": "conformance01",
    }
    return SignIn(**{**contents, **changes})


def ucan(**changes: Any) -> Ucan:
    """Return the delegation of the cases, with changes."""
    contents: Mapping[str, Any] = {
        "signer": _SESSION,
        "audience": _BOB.did,
        "grants": _GRANTS,
        "ends_at": END,
        "proofs": [_PROOF],
        "nonce": "conformance02",
    }
    return Ucan(**{**contents, **changes})


def wallet_cases() -> Iterator[Case]:
    """Yield the cases of CACAOs."""
    good = sign_in().sign()
    payload = sign_in().payload()
    signature = _ALICE.sign(signed_text(payload, _ALICE.address))

    def built(whole: Any) -> str:
        return b64url(dag_cbor(whole), padded=True)

    def signed(**changes: Any) -> str:
        return sign_in(**changes).sign().text

    head, signed_by = {"t": "eip4361"}, {"t": "eip191", "s": signature}
    spare = b64url(good.event_bytes + b"\0", padded=True)
    yield "C1", "a byte behind the CACAO", _UNDECODABLE, spare
    yield "C1", "map keys in another order", _UNDECODABLE, _reordered(good)
    yield "C2", "a member beyond the table", _UNDECODABLE, signed(extra={"place": "here"})
    yield "C2", "no nonce", _UNDECODABLE, cacao(_without(payload, "nonce"), signature).text
    yield "C2", "version 2", _UNDECODABLE, signed(extra={"version": 2})
    yield "C4", "the version as a text", _UNDECODABLE, signed(extra={"version": "1"})
    yield "C3", "a signature of 64 bytes", _UNDECODABLE, cacao(payload, signature[:64]).text
    yield "C4", "a signature as a list", _UNDECODABLE, cacao(payload, list(signature)).text
    other_type = {"t": "eip1271", "s": signature}
    yield (
        "C3",
        "another signature type",
        _UNDECODABLE,
        built({"h": head, "p": payload, "s": other_type}),
    )
    yield (
        "C3",
        "another header type",
        _UNDECODABLE,
        built({"h": {"t": "caip122"}, "p": payload, "s": signed_by}),
    )
    yield "C7", "a line end in the nonce", _UNDECODABLE, signed(nonce="conform\nance01")
    yield (
        "C9",
        "a chain that is a word",
        _UNDECODABLE,
        cacao(payload | {"iss": f"did:pkh:eip155:one:{_ALICE.address}"}, signature).text,
    )
    yield (
        "C10",
        "a date that does not exist",
        _UNDECODABLE,
        signed(extra={"iat": "2026-02-30T00:00:00.000Z"}),
    )
    yield "C10", "a time without a zone", _UNDECODABLE, signed(extra={"iat": "2026-02-20T00:00:00"})
    yield "C11", "1,025 resources", _UNDECODABLE, signed(before_recap=["urn:x:y"] * 1024)
    yield "C5", "a signature with a high s", _SIGNATURE, cacao(payload, _high(signature)).text
    yield "C5", "a v of 2", _SIGNATURE, cacao(payload, signature[:64] + b"\x02").text
    yield (
        "S5",
        "a caveat with a value in a ReCap",
        _UNDECODABLE,
        signed(grants={f"{_SPACE}/kv": {"tinycloud.kv/get": [{"limit": 1}]}}),
    )
    yield (
        "S4",
        "an empty list of caveats",
        _UNDECODABLE,
        signed(grants={f"{_SPACE}/kv": {"tinycloud.kv/get": []}}),
    )
    yield "S6", "a proof in base32 in a ReCap", _UNDECODABLE, signed(proofs=[_PROOF])
    lone = "urn:recap:" + b64url(canonical_json({"att": _GRANTS}))
    yield "S2", "a ReCap without prf", _UNDECODABLE, signed(extra={"resources": [lone]})
    array = "urn:recap:" + b64url(canonical_json([_GRANTS, []]))
    yield "Q35", "a ReCap as an array", _UNDECODABLE, signed(extra={"resources": [array]})
    yield (
        "S7",
        "a text behind the sentence",
        _UNDECODABLE,
        signed(statement=sentence(_GRANTS) + " Thank you."),
    )


def key_cases() -> Iterator[Case]:
    """Yield the cases of UCANs."""
    good = ucan().sign()
    head, body, tail = good.text.split(".")

    def with_header(**changes: Any) -> str:
        return ucan(header=changes).sign().text

    def with_payload(**changes: Any) -> str:
        return ucan(payload=changes).sign().text

    yield "E2", "two parts", _UNDECODABLE, f"{head}.{body}"
    yield "E2", "four parts", _UNDECODABLE, f"{good.text}.{tail}"
    yield "E3", "a padded part", _UNDECODABLE, f"{head}.{body}.{tail}=="
    yield "E5", "typ in lower case", _UNDECODABLE, with_header(typ="jwt")
    yield "E5", "no typ", _UNDECODABLE, with_header(typ=None)
    yield "E5", "another version of UCAN", _UNDECODABLE, with_header(ucv="0.9.1")
    yield "K7", "an alg with a shared secret", _REFUSED, with_header(alg="HS256")
    yield "K7", "alg none", _REFUSED, with_header(alg="none")
    yield "K7", "the alg of another key type", _REFUSED, with_header(alg="ES256")
    yield "E5", "an unknown critical member", _UNDECODABLE, with_header(crit=["x"])
    yield "E5", "no exp", _UNDECODABLE, with_payload(exp=None)
    yield "T6", "exp in milliseconds", _UNDECODABLE, with_payload(exp=END * 1000)
    yield "T6", "exp as a text", _UNDECODABLE, with_payload(exp=str(END))
    yield "E5", "no prf", _UNDECODABLE, with_payload(prf=None)
    yield "E8", "a proof that is no cid", _UNDECODABLE, with_payload(prf=["proof"])
    yield "T1", "att as a list", _UNDECODABLE, with_payload(att=[])
    yield (
        "T1",
        "a resource that is no URI",
        _UNDECODABLE,
        with_payload(att={"no uri": plain("tinycloud.kv/get")}),
    )
    yield (
        "A1",
        "an ability without a slash",
        _UNDECODABLE,
        with_payload(att={f"{_SPACE}/kv": plain("get")}),
    )
    yield (
        "T2",
        "an empty list of caveats",
        _UNDECODABLE,
        with_payload(att={f"{_SPACE}/kv": {"tinycloud.kv/get": []}}),
    )
    yield "T5", "an audience with a fragment", _UNDECODABLE, with_payload(aud=_BOB.url)
    yield "T5", "an audience that is no DID", _UNDECODABLE, with_payload(aud="bob")
    yield "E5", "facts as an object", _UNDECODABLE, with_payload(fct={})
    repeated = compact_json({"alg": "EdDSA", "typ": "JWT", "ucv": "0.10.0"})[:-1] + b',"typ":"JWT"}'
    payload = compact_json({"iss": _SESSION.url, "aud": _BOB.did, "exp": END, "prf": [], "att": {}})
    yield "T7", "typ given twice", _UNDECODABLE, jws(repeated, payload, _SESSION).text
    plain_head = repeated.replace(b',"typ":"JWT"}', b"}")
    array = jws(plain_head, b"[]", _SESSION).text
    yield "Q35", "a payload as an array", _UNDECODABLE, array
    yield "K9", "a signature with one other bit", _SIGNATURE, _flipped(good)
    short = f"{head}.{body}.{b64url(from_b64url(tail)[:63])}"
    yield "K9", "a signature that is cut off", _SIGNATURE, short
    forged = Ucan(
        signer=_BOB,
        audience=_BOB.did,
        grants=_GRANTS,
        ends_at=END,
        proofs=[_PROOF],
        nonce="conformance03",
        payload={"iss": _SESSION.url},
    ).sign()
    yield "K1", "a UCAN that another key signed", _SIGNATURE, forged.text
    yield (
        "K2",
        "another fragment on the issuer",
        _SIGNATURE,
        with_payload(iss=f"{_SESSION.did}#{_BOB.did.removeprefix('did:key:')}"),
    )
    yield (
        "K5",
        "an issuer that would have to be resolved",
        _SIGNATURE,
        with_payload(iss="did:web:conformance.example"),
    )


def _without(payload: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {member: value for member, value in payload.items() if member != name}


def _high(signature: bytes) -> bytes:
    """Return the twin of a signature, with the order minus s, which has the other v."""
    low = int.from_bytes(signature[32:64], "big")
    other = 27 + 28 - signature[64]
    return signature[:32] + (_ORDER - low).to_bytes(32, "big") + bytes([other])


def _reordered(token: Token) -> str:
    """Return a CACAO whose header map, of one member, is behind the payload."""
    data = token.event_bytes
    header = b"\x61h\xa1\x61t\x67eip4361"
    start = data.index(header)
    payload_and_rest = data[start + len(header) :]
    signature = payload_and_rest.rindex(b"\x61s\xa2")
    reordered = data[:start] + payload_and_rest[:signature] + header + payload_and_rest[signature:]
    return b64url(reordered, padded=True)


def _flipped(token: Token) -> str:
    head, body, tail = token.text.split(".")
    other = "A" if tail[10] != "A" else "B"
    return f"{head}.{body}.{tail[:10]}{other}{tail[11:]}"


def document() -> str:
    """Return the text of the file."""
    cases = [
        {"rule": rule, "what": what, "expect": expect, "token": token}
        for rule, what, expect, token in (*wallet_cases(), *key_cases())
    ]
    about = "tokens of fixed keys, posted to /delegate; each is refused with 401"
    return json.dumps({"about": about, "cases": cases}, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check the file; return the exit status."""
    if sys.argv[1:] == ["--check"]:
        return 0 if FILE.read_text("utf-8") == document() else 1
    FILE.write_text(document(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
