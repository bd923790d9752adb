"""The forms that the console writes are those of the SDK, byte for byte, and those of the
vectors."""

import base64
import json

from blake3 import blake3
from browser import BrowserWallet
from console_wire import WRITTEN_AGAIN, members
from node_js import Scripts
from tests_support import REPOSITORY, CountingEntropy

from capabilities.cacao import Cacao, encode_cacao, encode_dag_cbor, header_text, parse_cacao
from capabilities.cids import cid_text, digest_of
from capabilities.principals import eip55
from capabilities.recap import Recap, attach, encode_recap, recap_sentence
from capabilities.signatures import Ed25519Signer
from capabilities.siwe import SiweMessage, siwe_text
from capabilities.strict_base64 import decode_standard, decode_url
from capabilities.strict_json import Json
from capabilities.ucan import UcanPayload, encode_ucan, parse_ucan
from encryption_network.canonical_json import canonical_bytes, canonical_hash

VECTORS = REPOSITORY / "spec" / "vectors"
ENTROPY = CountingEntropy(b"forms")
OWNER = "did:pkh:eip155:1:0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
ATT: dict[str, dict[str, tuple[dict[str, None], ...]]] = {
    f"tinycloud:{OWNER[4:]}:b/kv": {"tinycloud.kv/put": ({},), "tinycloud.kv/get": ({},)},
    f"tinycloud:{OWNER[4:]}:a/kv/ä": {
        "tinycloud.kv/get": ({},),
        "tinycloud.capabilities/read": ({},),
    },
    f"urn:tinycloud:encryption:{OWNER}:default": {"sealspace.encryption/receipts": ({},)},
}
ROWS = [
    {"resource": resource, "ability": ability} for resource, held in ATT.items() for ability in held
]


def test_digests(shared_scripts: Scripts) -> None:
    """BLAKE3 at the limits of blocks, chunks and subtrees; Keccak by the checksums of addresses."""
    sizes = [0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 3072, 4097, 31744, 102400]
    digests = shared_scripts.evaluate(
        """async (sizes) => {
          const { blake3 } = await import("/console/wire/blake3.js");
          const { hex } = await import("/console/wire/bytes.js");
          return sizes.map((size) => hex(blake3(Uint8Array.from({ length: size }, (_, at) => at % 251))));
        }""",
        sizes,
    )
    assert digests == [blake3(bytes(at % 251 for at in range(size))).hexdigest() for size in sizes]
    addresses = [ENTROPY.token(20) for _ in range(8)]
    for address in addresses:
        assert shared_scripts.call("did.js", "checksummed", "0x" + address.hex()) == eip55(address)


def test_base64_has_one_text_for_each_value(shared_scripts: Scripts) -> None:
    texts = [
        "",
        "AA==",
        "AAE=",
        "AAEC",
        "AB==",
        "AA=",
        "AA",
        "A",
        "AA==AA==",
        "-_8=",
        "+/8=",
        " AA==",
        "AAEC\n",
        "AAF=",
    ]
    urls = ["", "AA", "AAE", "AAEC", "AB", "A", "-_8", "+/8", "AA==", "AAF"]
    for text in texts:
        decoded = decode_standard(text)
        assert shared_scripts.call("bytes.js", "fromBase64", text) == (
            None if decoded is None else decoded.hex()
        ), text
    for text in urls:
        decoded = decode_url(text)
        assert shared_scripts.call("bytes.js", "fromBase64url", text) == (
            None if decoded is None else decoded.hex()
        ), text


def test_keys_and_their_names(shared_scripts: Scripts) -> None:
    for seed in (bytes(32), ENTROPY.token(32)):
        signer = Ed25519Signer(seed)
        assert shared_scripts.call("did.js", "didKey", list(signer.public_key)) == signer.did
        assert shared_scripts.call("did.js", "ed25519Key", signer.did) == signer.public_key.hex()
        assert shared_scripts.call("did.js", "didUrl", signer.did) == signer.did_url
    assert shared_scripts.call("did.js", "base58", [0, 0, 1]) == "112"
    assert shared_scripts.call("did.js", "fromBase58", "112") == "000001"
    assert shared_scripts.call("did.js", "ed25519Key", OWNER) is None
    assert shared_scripts.call("did.js", "principalOf", OWNER.lower()) == OWNER


def test_canonical_json_is_that_of_the_vectors(shared_scripts: Scripts) -> None:
    cases = json.loads((VECTORS / "encryption_network" / "canonical_json.json").read_text("utf-8"))[
        "cases"
    ]
    held = [one for one in cases if "expect" in one and not _has_fraction(one["value"])]
    assert len(held) > 8
    answers = shared_scripts.evaluate(
        """async (values) => {
          const { canonicalText, canonicalHash } = await import("/console/wire/canonical_json.js");
          return Promise.all(values.map(async (one) => [canonicalText(one), await canonicalHash(one)]));
        }""",
        [one["value"] for one in held],
    )
    assert answers == [[one["expect"]["canonical"], one["expect"]["sha256"]] for one in held]
    astral: dict[str, Json] = {"\U0001f600": 1, "\uff5e": 2, "b": [None, True, "\x7f\x01\n"]}
    assert (
        shared_scripts.call("canonical_json.js", "canonicalText", astral)
        == canonical_bytes(astral).decode()
    )
    assert shared_scripts.call("canonical_json.js", "canonicalHash", "abc") == canonical_hash("abc")


def _has_fraction(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_fraction, value.values()))
    if isinstance(value, list):
        return any(map(_has_fraction, value))
    return isinstance(value, float) or (type(value) is int and abs(value) > 2**53 - 1)


def test_cbor_and_ids(shared_scripts: Scripts) -> None:
    value = {
        "b": "ä",
        "a": 1,
        "longer": [None, 23, 24, 255, 256, 65536, "x" * 300],
        "": {"z": "", "y": []},
    }
    assert shared_scripts.call("cacao.js", "encodeCbor", value) == encode_dag_cbor(value).hex()
    token = "e30.e30.AA"
    assert shared_scripts.call("cid.js", "tokenCid", token) == cid_text(digest_of(token.encode()))


def test_a_wallets_message(shared_scripts: Scripts, wallet: BrowserWallet) -> None:
    """Text, ReCap, sentence and header equal those of the SDK."""
    signer = wallet.signer
    recap = Recap(ATT, ())
    bare = SiweMessage(
        domain="node.example:8000",
        address=signer.address,
        uri=Ed25519Signer(bytes(32)).did_url,
        nonce="abcdefgh12345678",
        issued_at="2026-11-20T07:19:22.970Z",
        expiration_time="2026-11-27T07:19:22.970Z",
        statement="Sign in.",
    )
    message = attach(bare, recap)
    given = {
        "domain": bare.domain,
        "address": "0x" + signer.address.hex(),
        "chainId": 1,
        "uri": bare.uri,
        "nonce": bare.nonce,
        "issuedAt": bare.issued_at,
        "expirationTime": bare.expiration_time,
        "statement": bare.statement,
    }
    signature = signer.sign_eip191(siwe_text(message))
    text, header, encoded, sentence = shared_scripts.evaluate(
        """async ([given, rows, signature]) => {
          const { siweText, withRecap } = await import("/console/wire/siwe.js");
          const { encodeCacao } = await import("/console/wire/cacao.js");
          const { attenuations, encodeRecap, recapSentence } = await import("/console/wire/recap.js");
          const message = withRecap(given, rows);
          return [siweText(message), encodeCacao(message, Uint8Array.from(signature)),
            encodeRecap(attenuations(rows)), recapSentence(attenuations(rows))];
        }""",
        [given, ROWS, list(signature)],
    )
    assert text == siwe_text(message)
    assert header == header_text(encode_cacao(Cacao(message, signature)))
    assert encoded == encode_recap(recap)
    assert sentence == recap_sentence(recap)


def test_a_field_cannot_forge_a_line(shared_scripts: Scripts) -> None:
    given = {
        "domain": "a\nb",
        "address": "0x" + "00" * 20,
        "chainId": 1,
        "uri": "u",
        "nonce": "n",
        "issuedAt": "t",
    }
    code = shared_scripts.evaluate(
        """async (given) => (await import("/console/wire/siwe.js").then(({ siweText }) => siweText(given))
             .catch((error) => error.code))""",
        given,
    )
    assert code == "invalid-input"


def test_a_keys_token(shared_scripts: Scripts) -> None:
    """A token of the same claims and key is the same text, because Ed25519 signatures are
    deterministic."""
    signer = Ed25519Signer(bytes(range(32)))
    att: dict[str, dict[str, list[dict[str, Json]]]] = {
        resource: {ability: [{}] for ability in held} for resource, held in ATT.items()
    }
    claims = {
        "iss": signer.did_url,
        "aud": signer.did,
        "exp": 1795000000.125,
        "nnc": "urn:uuid:00000000-0000-4000-8000-000000000000",
        "fct": [{"type": "t", "n": 1}],
        "prf": [cid_text(digest_of(b"parent"))],
        "att": att,
    }
    pkcs8 = bytes.fromhex("302e020100300506032b657004220420") + bytes(range(32))
    token = shared_scripts.evaluate(
        """async ([claims, pkcs8]) => {
          const { mintUcan } = await import("/console/wire/ucan.js");
          const key = await crypto.subtle.importKey("pkcs8", Uint8Array.from(pkcs8), "Ed25519", false, ["sign"]);
          return mintUcan(claims, key);
        }""",
        [claims, list(pkcs8)],
    )
    assert token == encode_ucan(UcanPayload(**claims), signer)  # type: ignore[arg-type]  # by name
    assert parse_ucan(token).payload.att == att


def test_recorded_messages_are_read(shared_scripts: Scripts) -> None:
    """The members of the vectors' CACAOs are written as the same bytes."""
    cases = json.loads((VECTORS / "capabilities" / "tokens.json").read_text("utf-8"))["cases"]
    held = []
    for one in cases:
        if "." not in one["token"] and "cid" in one.get("expect", {}):
            data = base64.urlsafe_b64decode(one["token"])
            parse_cacao(data)
            held.append((one["token"], data, one["expect"]["cid"]))
    assert held
    for token, data, cid in held:
        assert shared_scripts.call("cid.js", "tokenCid", token) == cid
        again = shared_scripts.evaluate(
            f"async (text) => {{ {WRITTEN_AGAIN} return written(text); }}", members(data)
        )
        assert again == data.hex()


def test_only_canonical_cbor_is_read(shared_scripts: Scripts) -> None:
    """Recorded messages are read. Changed, truncated and random bytes are either canonical or
    refused."""
    cases = json.loads((VECTORS / "capabilities" / "tokens.json").read_text("utf-8"))["cases"]
    texts = [one["token"] for one in cases if "." not in one["token"] and "cid" in one["expect"]]
    whole = [base64.urlsafe_b64decode(text) for text in texts[:4]]
    changed = [
        one[:at] + ENTROPY.token(1) + one[at + 1 :] for one in whole for at in range(len(one))
    ]
    cut = [one[:at] for one in whole for at in range(0, len(one), 7)]
    nested = [b"\x81" * 5000 + b"\xf6", b"\x9a\xff\xff\xff\xff", b"\xba\xff\xff\xff\xff\x60"]
    rest = [*changed, *cut, *nested, *(ENTROPY.token(size) for size in range(64)), b""]
    read = shared_scripts.evaluate(
        """async (all) => {
          const { decodeCbor, encodeCbor } = await import("/console/wire/cacao.js");
          const { fromHex, hex } = await import("/console/wire/bytes.js");
          return all.map((one) => {
            try { return hex(encodeCbor(decodeCbor(fromHex(one)))); } catch { return null; }
          });
        }""",
        [one.hex() for one in (*whole, *rest)],
    )
    assert read[: len(whole)] == [one.hex() for one in whole]
    for one, again in zip(rest, read[len(whole) :], strict=True):
        assert again in (None, one.hex())
