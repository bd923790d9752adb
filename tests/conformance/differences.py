"""Where this node answers a recorded case differently on purpose, and why.

A reason is a row of spec/wire.md 9.2 (`Q…`) or of spec/encryption.md 10.1 (`enc-…`), another rule or section of spec/,
`HTTP server` for a bound that the library sets, or `not yet` for what is to come.
Each entry states the answer that is given instead, in comparable form: an entry whose case answers as recorded, or
otherwise than stated, fails the replay.
"""

from dataclasses import dataclass

from node import __version__

PAGE = "{page}"
NOT_YET = "not yet"
MOST_NOT_YET = 25


@dataclass(frozen=True, slots=True)
class Difference:
    """What is answered instead: a status, a body in comparable form, and the reason."""

    reason: str
    status: int
    body: str


def _several(difference: Difference, *cases: str) -> dict[str, Difference]:
    return dict.fromkeys(cases, difference)


_NO_PARENT = "Cannot find parent delegation"
_BAD_SIGNATURE = "Failed to verify signature"
_NOT_ONE_KIND = "Multiple invocation outcomes require a homogeneous KV get or metadata batch"
_DUPLICATE = "duplicate invocation"


def _key_error(reason: str, status: int, text: str) -> Difference:
    return Difference(reason, status, f"key backend error: {text}")


def _information(attestation: str) -> Difference:
    """What `/info` says with a mode of attestation."""
    return Difference(
        "wire 5.1: own version and features",
        200,
        f'{{"attestation":"{attestation}","features":["kv","delegation","sharing","encryption","attestation"],'
        f'"inTEE":false,"nodeId":"{{node}}","protocol":1,"version":"{__version__}"}}',
    )


def _release(number: int) -> str:
    """The answer to a decrypt request by the token of that number, on the owner's network `default`."""
    return (
        '{"alg":"x25519-aes256gcm/v1","encryptedSymmetricKeyHash":"{encryptedSymmetricKeyHash}",'
        f'"invocationCid":"{{cid{number}}}","keyVersion":1,'
        '"networkId":"urn:tinycloud:encryption:did:key:{owner}:default","nodeId":"{node}",'
        '"nodeSignature":"{nodeSignature}","receiverPublicKeyHash":"{receiverPublicKeyHash}",'
        '"requestHash":"{requestHash}","targetNode":"{node}","type":"tinycloud.encryption.decrypt-result/v1",'
        '"wrappedKey":"{wrappedKey}"}'
    )


DIFFERENCES: dict[str, Difference] = {
    # --- one signature, one spelling (capabilities §2.6)
    **_several(
        Difference("Q25", 401, PAGE),
        "cacao.version-wide",
        "cacao.extra-deep-200",
        "cacao.sig-extra",
        "cacao.top-extra",
        "cacao.payload-extra",
        "cacao.extra-float16",
        "cacao.extra-undefined",
        "cacao.extra-tag-42",
        "cacao.extra-indefinite",
        "cacao.long-length",
        "cacao.key-order",
        "cacao.request-id-camel",
    ),
    **_several(
        Difference("Q25", 401, _BAD_SIGNATURE),
        "cacao.v-54",
        "ucan.es256-high-s",
    ),
    "cacao.nonce-newline": Difference("C7: no control character in any text of a CACAO", 401, PAGE),
    "recap.json-positional": Difference("Q35", 401, PAGE),
    "recap.case-variants": Difference(
        "Q19", 200, '{"activated":[],"cid":"{cid1}","skipped":["tinycloud:pkh:eip155:1:{owner}:default"]}'
    ),
    **_several(Difference("Q33", 401, _BAD_SIGNATURE), "ucan.alg-rs256", "ucan.alg-es256-on-ed-key"),
    **_several(
        Difference(f"{NOT_YET}: keys that are not Ed25519", 401, _BAD_SIGNATURE),
        "ucan.es256k",
        "ucan.pkh-jwk",
        "ucan.pkh-fragment",
        "ucan.pkh-chain-5-iss",
        "ucan.pkh-solana",
        "ucan.did-jwk",
        "ucan.pkh-eskeccakkr",
        "invoke.wallet-signs",
        "invoke.replay-other-s-es256",
    ),
    **_several(
        Difference("Q28", 401, PAGE),
        "ucan.exp-milliseconds",
        "ucan.exp-30-digits",
        "delegate.exp-far-year-10000",
        "delegate.exp-far-milliseconds",
    ),
    # --- registering
    "uri.space.name-dot-dot": Difference("Q30", 404, "Space not found"),
    "delegate.repeat-expired": Difference("Q6", 401, "Delegation expired or not yet valid"),
    "delegate.repeat-revoked": Difference("Q6", 401, "delegation-revoked: {cid2}"),
    "delegate.root-unknown-prf": Difference("Q13", 401, _NO_PARENT),
    "delegate.prf-twice": Difference("Q26", 401, _NO_PARENT),
    # --- invoking
    "invoke.root-unknown-prf-write": Difference("Q13", 401, _NO_PARENT),
    "invoke.precondition-stranger": Difference("Q5", 401, _NO_PARENT),
    "invoke.mixed.put-get-effect": Difference("Q3", 200, "a"),
    **_several(
        Difference("Q3", 400, _NOT_ONE_KIND),
        "invoke.mixed.put-and-get-one-key",
        "invoke.mixed.list-get",
        "invoke.mixed.two-lists",
    ),
    "invoke.mixed.two-deletes": Difference(f"{NOT_YET}: Q4", 400, _NOT_ONE_KIND),
    # Nothing ran, as nothing ran on the recorded server: the effect needs no entry.
    **_several(
        Difference(f"{NOT_YET}: batch reads", 400, _NOT_ONE_KIND),
        "invoke.one-of-two-not-granted",
        "invoke.cross-space-one-unhosted",
    ),
    "invoke.side-route-put": Difference(f"{NOT_YET}: signed URLs", 404, PAGE),
    "invoke.side-route-deletes": Difference("Q27", 200, "x"),
    **_several(
        Difference(f"{NOT_YET}: this route", 404, PAGE),
        "header.missing.signed-kv",
        "header.missing.delegation-status",
        "header.missing.hooks-tickets",
    ),
    # --- revoking
    "revoke.first-prf-fallback-granted": Difference("Q8", 401, PAGE),
    "revoke.no-header-json": Difference("capabilities §3.8: policy roots are out of scope", 401, PAGE),
    # The second spelling is not registered, so what cites it cites nothing.
    "revoke.resurrected-extra-key": Difference("Q25", 401, _NO_PARENT),
    "revoke.resurrected-v-byte": Difference("Q25", 401, "delegation-revoked: {cid4}"),
    "revoke.resurrected-es256-s": Difference(f"{NOT_YET}: keys that are not Ed25519", 401, _NO_PARENT),
    # --- encryption networks
    "net.well-known-no-owner": Difference("enc-W13", 404, "network not found"),
    "decrypt.invoke.body-positional": Difference(
        "enc-W19", 403, "decrypt request body is malformed: invalid type: sequence, expected an object"
    ),
    "decrypt.route.fact-positional": Difference(
        "enc-W19", 400, "decrypt request body is malformed: missing encryption invocation facts"
    ),
    "decrypt.route.key-32-bytes": _key_error("enc-W6", 500, "encrypted data too short"),
    "decrypt.invoke.key-32-bytes": _key_error("enc-W6", 403, "encrypted data too short"),
    "decrypt.route.key-passthrough": _key_error("enc-W6", 500, "unknown version of sealed data"),
    "decrypt.invoke.key-version-byte-0": _key_error("enc-W6", 403, "unknown version of sealed data"),
    **_several(
        _key_error("enc-W8", 500, "invalid content key length"),
        "decrypt.route.content-16-bytes",
        "decrypt.route.content-empty",
    ),
    **_several(
        _key_error("enc-W8", 403, "invalid content key length"),
        "decrypt.invoke.content-16-bytes",
        "decrypt.invoke.content-1000-bytes",
    ),
    **_several(
        _key_error("enc-W5", 500, "low-order public key"),
        "decrypt.route.ephemeral-low-order",
        "decrypt.route.receiver-zero",
        "decrypt.route.receiver-low-order",
    ),
    **_several(
        _key_error("enc-W5", 403, "low-order public key"),
        "decrypt.invoke.ephemeral-low-order",
        "decrypt.invoke.receiver-low-order",
    ),
    "decrypt.route.with-kv-del": Difference("enc-W18", 200, "hello"),
    # Beside a decrypt capability others are judged and never executed, so their spaces need not be hosted.
    "decrypt.route.att-with-kv": Difference("enc-W18", 200, _release(2)),
    **_several(
        Difference("ST4: the first read claims the token, whatever follows", 409, _DUPLICATE),
        "decrypt.invoke.after-route",
        "decrypt.invoke.retry-after-403",
    ),
    # --- the node itself
    **_several(_information("off"), "info.info", "info.version"),
}

# Cases that answer as recorded although the answer is called a fault, and why that is right here.
KEPT_FAULTS = {
    "ucan.did-web-unreachable": "Q34: the same text, but nothing was fetched",
    "invoke.expired-parent": "Q17: clients parse this text",
    "invoke.mixed.two-deletes-effect": "Q4: not yet; nothing was deleted, so nothing is lost",
    "net.create-upper-name": "enc-D4: the node reads more names than one client writes",
    "net.create-long-token": "enc-W9: the nonce is claimed until the token's own expiry",
    **dict.fromkeys(
        (
            "decrypt.invoke.key-empty",
            "decrypt.route.key-31-bytes",
            "decrypt.invoke.key-first-byte",
            "decrypt.route.key-tag-altered",
            "decrypt.route.key-short",
            "decrypt.invoke.key-short",
            "decrypt.invoke.receiver-10-bytes",
            "decrypt.route.receiver-33-bytes",
            "decrypt.route.receiver-empty",
            "decrypt.invoke.receiver-empty",
        ),
        "enc-W8: refused; only the status of the dedicated route is called wrong",
    ),
}

# Cases that end as recorded although something on the way is answered differently.
SETUP_DIFFERENCES = {
    "invoke.mixed.two-deletes-effect": f"{NOT_YET}: Q4",
    "invoke.replay-after-signed-url": f"{NOT_YET}: signed URLs",
}

_NOT_IN_PERSON = "RL2, RL5: neither the owner in person nor approved code"
_REFUSED = "release refused: no_policy"

# With the settings a node has by default (hosting `auto`, attestation `delegates`): what changes on top of the above.
# Spaces that signing in hosts are not listed one by one; see the replay with default settings.
DEFAULT_SETTINGS_DIFFERENCES: dict[str, Difference] = {
    "invoke.unhosted-write": Difference("store §6: the owner's own put hosts the space", 200, ""),
    "net.create-lower-owner": Difference(
        "store §6: the sign-in has made the owner's default network", 409, "network already exists"
    ),
    **_several(_information("delegates"), "info.info", "info.version"),
    **_several(
        Difference(_NOT_IN_PERSON, 401, _REFUSED),
        "decrypt.route.lower-path",
        "decrypt.route.lower-fact",
        "decrypt.route.lower-att",
        "decrypt.route.granted",
        "decrypt.route.sub-delegated",
    ),
    **_several(
        Difference(_NOT_IN_PERSON, 403, _REFUSED),
        "decrypt.invoke.lower-path",
        "decrypt.invoke.lower-body",
        "decrypt.invoke.lower-att",
    ),
}
