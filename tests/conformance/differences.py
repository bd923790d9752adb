"""Recorded cases that this node answers differently on purpose, with the reasons.

A reason is a row of spec/wire.md 9.2 (`Q…`) or of spec/encryption.md 10.1 (`enc-…`), another rule
or section of spec/, `HTTP server` for a limit of the library, or `not yet` for planned work. Each
entry contains the expected answer in comparable form. The replay fails if the case is answered as
recorded, or in another way than the entry says.
"""

import json
from dataclasses import dataclass

from node.http.routes.info import FRONT
from sealspace import __version__

PAGE = "{page}"
NOT_YET = "not yet"
MOST_NOT_YET = 15


@dataclass(frozen=True, slots=True)
class Difference:
    """The expected answer of this node: status, comparable body, and the reason."""

    reason: str
    status: int
    body: str


@dataclass(frozen=True, slots=True)
class OtherHeaders:
    """The recorded headers, of which those with a prefix are replaced."""

    reason: str
    without: str = ""
    added: tuple[tuple[str, str], ...] = ()

    def instead_of(self, recorded: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Return the headers of the expected answer."""
        kept = [one for one in recorded if not self.without or not one[0].startswith(self.without)]
        return tuple(sorted([*kept, *self.added]))


def several(difference: Difference, *cases: str) -> dict[str, Difference]:
    """Return one difference for several cases."""
    return dict.fromkeys(cases, difference)


_NO_PARENT = "Cannot find parent delegation"
_BAD_SIGNATURE = "Failed to verify signature"
_NOT_ONE_KIND = "Multiple invocation outcomes require a homogeneous KV get or metadata batch"
_DUPLICATE = "duplicate invocation"
_OTHER_KIND = "Token of another kind"
_TOO_LONG = "Invocation lifetime exceeds server maximum"


def _key_error(reason: str, status: int, text: str) -> Difference:
    return Difference(reason, status, f"key backend error: {text}")


def _information(attestation: str) -> Difference:
    """Return the answer of `/info` for a mode of attestation."""
    return Difference(
        "wire 5.1: own version and features",
        200,
        f'{{"attestation":"{attestation}","features":["kv","delegation","sharing","signed-urls","encryption","kv-sync-v1","attestation","sql"],'
        f'"inTEE":false,"nodeId":"{{node}}","oidcDid":"{{oidcDid}}","protocol":1,"version":"{__version__}"}}',
    )


def _quota(
    space: str, *, limit: int | None = None, own: int | None = None, used: int | None = None
) -> str:
    """Return the operator's answer about a space of the owner."""
    reported = {"current_usage_bytes": used, "effective_limit_bytes": limit, "override_bytes": own}
    return json.dumps(
        {**reported, "space_id": f"tinycloud:key:{{owner}}:{space}"}, separators=(",", ":")
    )


def _release(number: int) -> str:
    """Return the answer to a numbered decrypt token on the owner's network `default`."""
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
    **several(
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
    **several(
        Difference("Q25", 401, _BAD_SIGNATURE),
        "cacao.v-54",
        "ucan.es256-high-s",
        "invoke.replay-other-s-es256",
    ),
    "cacao.nonce-newline": Difference("C7: no control character in any text of a CACAO", 401, PAGE),
    "recap.json-positional": Difference("Q35", 401, PAGE),
    "recap.case-variants": Difference(
        "Q19",
        200,
        '{"activated":[],"cid":"{cid1}","skipped":["tinycloud:pkh:eip155:1:{owner}:default"]}',
    ),
    **several(Difference("Q33", 401, _BAD_SIGNATURE), "ucan.alg-rs256", "ucan.alg-es256-on-ed-key"),
    **several(
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
    # --- a token is of one kind
    **several(
        Difference("T8: a request addresses this node or its own signer", 401, _OTHER_KIND),
        "invoke.aud-any",
        "invoke.wallet-signs",
    ),
    "revoke.other-ability": Difference(
        "V1: a revocation revokes, and does nothing else", 401, _OTHER_KIND
    ),
    "signed.mint-long-token": Difference(
        "I4: as on every route that uses a token up", 401, _TOO_LONG
    ),
    # --- invoking
    "invoke.root-unknown-prf-write": Difference("Q13", 401, _NO_PARENT),
    **several(
        Difference("I39", 401, "invocation-caveats-not-subset-of-chain: caveat-not-understood"),
        "invoke.caveat-equal",
        "invoke.caveat-added",
    ),
    "invoke.precondition-stranger": Difference("Q5", 401, _NO_PARENT),
    "invoke.mixed.put-get-effect": Difference("Q3", 200, "a"),
    **several(
        Difference("Q3", 400, _NOT_ONE_KIND),
        "invoke.mixed.put-and-get-one-key",
        "invoke.mixed.list-get",
        "invoke.mixed.two-lists",
    ),
    "invoke.mixed.two-deletes": Difference("Q4", 200, ""),
    "invoke.mixed.two-deletes-effect": Difference("Q4", 200, "[]"),
    "invoke.side-route-put": Difference("Q27", 404, "Key not found"),
    "invoke.side-route-deletes": Difference("Q27", 200, "x"),
    # --- values
    "kv.list-leaks-sibling": Difference("Q15", 200, '["photos/1"]'),
    "kv.list-cursor-next": Difference("Q1", 200, '["a/2","a_c","ab"]'),
    # --- revoking
    "revoke.first-prf-fallback-granted": Difference("Q8", 401, PAGE),
    "revoke.no-header-json": Difference(
        "capabilities §3.8: policy roots are out of scope", 401, PAGE
    ),
    # The second spelling is not registered, so what cites it cites nothing.
    "revoke.resurrected-extra-key": Difference("Q25", 401, _NO_PARENT),
    "revoke.resurrected-v-byte": Difference("Q25", 401, "delegation-revoked: {cid4}"),
    "revoke.resurrected-es256-s": Difference("Q25", 401, _NO_PARENT),
    # --- reporting on delegations
    "status.body-positional": Difference("Q35", 422, PAGE),
    "query.not-object": Difference("Q35", 400, "Invalid delegation query: expected a JSON object"),
    # --- encryption networks
    "net.well-known-no-owner": Difference(
        "enc-W13", 400, "decrypt request body is malformed: name the owner with ownerDid"
    ),
    "net.create-upper-name": Difference(
        "enc-D4",
        400,
        "the name of a new network may contain only a-z, 0-9 and '-', and must not begin with '-'",
    ),
    "decrypt.invoke.body-positional": Difference(
        "enc-W19",
        403,
        "decrypt request body is malformed: invalid type: sequence, expected an object",
    ),
    "decrypt.route.fact-positional": Difference(
        "enc-W19", 400, "decrypt request body is malformed: missing encryption invocation facts"
    ),
    "decrypt.route.key-32-bytes": _key_error("enc-W6", 500, "encrypted data too short"),
    "decrypt.invoke.key-32-bytes": _key_error("enc-W6", 403, "encrypted data too short"),
    "decrypt.route.key-passthrough": _key_error("enc-W6", 500, "unknown version of sealed data"),
    "decrypt.invoke.key-version-byte-0": _key_error(
        "enc-W6", 403, "unknown version of sealed data"
    ),
    **several(
        _key_error("enc-W8", 500, "invalid content key length"),
        "decrypt.route.content-16-bytes",
        "decrypt.route.content-empty",
    ),
    **several(
        _key_error("enc-W8", 403, "invalid content key length"),
        "decrypt.invoke.content-16-bytes",
        "decrypt.invoke.content-1000-bytes",
    ),
    **several(
        _key_error("enc-W5", 500, "low-order public key"),
        "decrypt.route.ephemeral-low-order",
        "decrypt.route.receiver-zero",
        "decrypt.route.receiver-low-order",
    ),
    **several(
        _key_error("enc-W5", 403, "low-order public key"),
        "decrypt.invoke.ephemeral-low-order",
        "decrypt.invoke.receiver-low-order",
    ),
    "decrypt.route.with-kv-del": Difference("enc-W18", 200, "hello"),
    # Beside a decrypt capability others are judged and never executed, so their spaces need not be
    # hosted.
    "decrypt.route.att-with-kv": Difference("enc-W18", 200, _release(2)),
    **several(
        Difference("ST4: the first read claims the token, whatever follows", 409, _DUPLICATE),
        "decrypt.invoke.after-route",
        "decrypt.invoke.retry-after-403",
    ),
    "kv.list-like-chars": Difference("M61: a prefix is of whole segments", 200, "[]"),
    "public.list-prefix": Difference("M61: a prefix is of whole segments", 200, '["d/e"]'),
    "invoke.nothing.space-info": Difference(
        "Q36: the usage of the space, as newer nodes answer",
        200,
        '{"createdAt":"{createdAt}","id":"tinycloud:key:{owner}:default","name":"default",'
        '"owner":"did:key:{owner}","space":{"limitBytes":null,"usedBytes":0},"type":"owned",'
        '"usageBytes":0}',
    ),
    # --- signed URLs and quotas
    "signed.survives-revocation": Difference("Q24", 401, "signed URL ticket is invalid"),
    "quota.stranger": Difference("Q5", 401, _NO_PARENT),
    **several(Difference("Q5", 404, "Space not found"), "quota.unhosted", "quota.public-unhosted"),
    **several(
        Difference(
            "H12: JSON, as newer nodes answer",
            402,
            '{"error":"storage_quota_exceeded",'
            '"message":"Storage quota exceeded. Used: 5 bytes, Limit: 5 bytes",'
            '"space":{"limitBytes":5,"usedBytes":5}}',
        ),
        "quota.full-empty-body",
        "quota.full-same-bytes",
    ),
    "quota.public-default": Difference(
        "H12: JSON, as newer nodes answer",
        413,
        '{"error":"storage_limit_reached",'
        '"message":"Write exceeds remaining storage. Used: 0 bytes, Limit: 10485760 bytes",'
        '"space":{"limitBytes":10485760,"usedBytes":0}}',
    ),
    "quota.not-refunded": Difference("ST7: a deleted value gives its weight back", 200, ""),
    "quota.dedup": Difference(
        "ST7: a small value is weighed under each of its keys", 200, _quota("default", used=10)
    ),
    "admin.usage": Difference(
        "M54: what the rows take is told too",
        200,
        '[{"row_bytes": 257, "space_id": "tinycloud:key:{owner}:default", "usage_bytes": 5}]',
    ),
    "quota.public-override-shown": Difference(
        "M53: the limit that puts heed is told",
        200,
        _quota("public", limit=10 << 20, own=1, used=0),
    ),
    # --- services that are not offered
    **several(
        Difference("Q7: no hooks", 404, "Hooks support is not enabled on this node"),
        "header.missing.hooks-tickets",
        "hooks.ticket",
        "hooks.ticket-bad-signature",
        "hooks.ticket-expired-token",
        "hooks.webhooks-stranger",
    ),
    # --- the node itself
    **several(_information("off"), "info.info", "info.version", "cors.info", "cors.no-origin"),
    "http.root": Difference("wire 5.1: a text for a person", 200, FRONT),
}

# Cases that answer as recorded although the answer is called a fault, and why that is right here.
KEPT_FAULTS = {
    "public.rate-limit": (
        "Q12: the header is believed, because the replay's requests come from a trusted proxy"
    ),
    "public.rate-limit-spoofed": (
        "Q12: as for `public.rate-limit`; from anybody else the header is not read"
    ),
    "ucan.did-web-unreachable": "Q34: the same text, but nothing was fetched",
    "invoke.expired-parent": "Q17: clients parse this text",
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
SETUP_DIFFERENCES = dict.fromkeys(
    (
        "admin.put-delete",
        "admin.put-get",
        "quota.just-fits",
        "quota.reads-free",
    ),
    "wire 5.2: what the operator is told is for no page",
)

# Cases whose answer differs only in a time that the comparable form hides.
TIME_DIFFERENCES = {"signed.ttl-snake-case-ignored": "Q9: both spellings are read"}

# Cases whose answer differs only in the parents of delegations.
PARENTS_DIFFERENCES = dict.fromkeys(
    (
        "caps.list",
        "caps.created",
        "caps.direction-unknown",
        "caps.path",
        "caps.actions",
        "caps.params-type-unknown",
        "caps.params-second-fact",
        "caps.list-revoked",
        "caps.expired-left-out",
        "caps.ancestor-revoked-stays",
    ),
    "Q23: parents are what a delegation cites; the recorded server tells its own id, once for each"
    " of its children",
)

_CLOSED_TO_PAGES = OtherHeaders(
    "wire 5.2: what the operator is told is for no page", without="access-control-"
)
_REPORTED_AS_BYTES = OtherHeaders(
    "wire 5.10: a browser is told a type for every value",
    added=(("content-type", "application/octet-stream"),),
)

# Cases whose answer differs only in these headers.
HEADER_DIFFERENCES = {
    **dict.fromkeys(
        (
            "admin.get",
            "admin.get-unhosted",
            "admin.lower-bearer",
            "admin.put-delete",
            "admin.put-get",
            "admin.put-negative",
            "admin.put-shape",
            "admin.quota-no-header",
            "admin.usage",
            "admin.usage-no-header",
            "admin.usage-wrong",
        ),
        _CLOSED_TO_PAGES,
    ),
    **dict.fromkeys(
        (
            "public.get-dot-file",
            "public.get-encoded-slash",
            "public.get-encoded-twice",
            "public.get-nested",
            "signed.get-empty-value",
        ),
        _REPORTED_AS_BYTES,
    ),
}

# Headers that this node adds to answers of recorded cases.
ADDED_HEADERS = {
    "content-security-policy": "wire 5.10: a value that a browser opens gets no origin of its own",
    "last-modified": "wire 4.4.2: when the node stored the value",
    "retry-after": "wire 4.10: who asks too often is told when to come back",
}

_DEFAULT_QUOTA = "store §6: a space has a quota by default"
_NOT_IN_PERSON = "RL2, RL5: neither the owner in person nor approved code"
_REFUSED = "release refused: no_policy"

# With the settings a node has by default (hosting `auto`, attestation `delegates`): what changes on
# top of the above. Spaces that signing in hosts are not listed one by one; see the replay with
# default settings.
DEFAULT_SETTINGS_DIFFERENCES: dict[str, Difference] = {
    "invoke.unhosted-write": Difference("store §6: the owner's own put hosts the space", 200, ""),
    **several(
        Difference("store §6: the owner's own put hosts the space", 200, ""),
        "quota.unhosted",
        "quota.public-unhosted",
    ),
    "admin.get": Difference(_DEFAULT_QUOTA, 200, _quota("default", limit=1 << 30, used=5)),
    "admin.put-delete": Difference(_DEFAULT_QUOTA, 200, _quota("default", limit=1 << 30)),
    "admin.get-unhosted": Difference(_DEFAULT_QUOTA, 200, _quota("other", limit=1 << 30)),
    "invoke.nothing.space-info": Difference(
        _DEFAULT_QUOTA,
        200,
        '{"createdAt":"{createdAt}","id":"tinycloud:key:{owner}:default","limitBytes":1073741824,'
        '"name":"default","owner":"did:key:{owner}",'
        '"space":{"limitBytes":1073741824,"usedBytes":0},"type":"owned","usageBytes":0}',
    ),
    "quota.dedup": Difference(_DEFAULT_QUOTA, 200, _quota("default", limit=1 << 30, used=10)),
    **several(
        _information("delegates"), "info.info", "info.version", "cors.info", "cors.no-origin"
    ),
    **several(
        Difference(_NOT_IN_PERSON, 401, _REFUSED),
        "decrypt.route.lower-path",
        "decrypt.route.lower-fact",
        "decrypt.route.lower-att",
        "decrypt.route.granted",
        "decrypt.route.sub-delegated",
    ),
    **several(
        Difference(_NOT_IN_PERSON, 403, _REFUSED),
        "decrypt.invoke.lower-path",
        "decrypt.invoke.lower-body",
        "decrypt.invoke.lower-att",
    ),
}
