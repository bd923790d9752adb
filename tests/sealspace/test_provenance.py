"""Tests of each check of provenance bundles (PV1 to PV10)."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from sigstore.models import Bundle
from sigstore.verify import Verifier
from sigstore.verify.policy import UnsafeNoOp
from sigstore_authority import BUILT_AT, CERTIFICATE_LIFETIME, Deviations, SigstoreAuthority

from sealspace.apps.provenance import parse_trusted_root, verify_provenance
from sealspace.documents.builds import MAX_BUNDLE_BYTES, Build
from sealspace.documents.trusted_roots import MAX_TRUSTED_ROOT_BYTES
from sealspace.errors import ProvenanceInvalid

AUTHORITY = SigstoreAuthority()
ROOT = parse_trusted_root(AUTHORITY.trusted_root)
PROGRAM = "5a" * 32
REPOSITORY = "github.com/alice/project"
BUILD = Build(
    repository=REPOSITORY,
    repository_id="1001",
    ref="refs/heads/main",
    commit="a1" * 20,
    workflow=f"{REPOSITORY}/.github/workflows/release.yml",
)
SHARED_WORKFLOW = "github.com/builders/shared/.github/workflows/build.yml"
OWN_WORKFLOW = f"{BUILD.workflow}@{BUILD.ref}"
SIGNER = x509.UniformResourceIdentifier(f"https://{OWN_WORKFLOW}")

Change = Callable[[Any], None]


def bundle(**options: Any) -> bytes:
    return AUTHORITY.bundle(PROGRAM, **options)


def deviating(**deviations: Any) -> bytes:
    return bundle(deviations=Deviations(**deviations))


def changed(change: Change, **options: Any) -> bytes:
    """Return a bundle that was changed after it was signed."""
    document = json.loads(bundle(**options))
    change(document)
    return json.dumps(document).encode()


def entry(document: Any) -> Any:
    return document["verificationMaterial"]["tlogEntries"][0]


def flipped(text: str, at: int = -8) -> str:
    """Return base64 text with one bit of the bytes flipped."""
    data = bytearray(b64decode(text))
    data[at] ^= 1
    return b64encode(data).decode()


def flip(*path: str | int, at: int = -8) -> Change:
    """Return a change that flips a bit of the member at a path below the bundle."""

    def change(document: Any) -> None:
        *parents, last = path
        for name in parents:
            document = document[name]
        document[last] = flipped(document[last], at)

    return change


def refused_claim(data: bytes, root: Any = ROOT, program: str = PROGRAM) -> str:
    with pytest.raises(ProvenanceInvalid) as refusal:
        verify_provenance(data, program, root)
    assert refusal.value.hint
    return refusal.value.claim


@pytest.mark.parametrize("version", [1, 2])
def test_a_bundle_proves_its_origin(version: Any) -> None:
    """PV2: the signing time comes from the log's promise or from a timestamp authority."""
    assert verify_provenance(bundle(log_version=version), PROGRAM, ROOT) == BUILD


def test_every_part_of_the_origin_is_that_of_the_certificate() -> None:
    """PV6, PV10: each part of the origin is read from the certificate."""
    found = bundle(
        repository="github.com/Bob-2/x._-",
        repository_id="18446744073709551615",
        ref="refs/tags/@bob/x@1.0+a_b#2,c=d%",
        commit="0f" * 32,
        workflow="github.com/Bob-2/x._-/.github/workflows/a.yaml",
        trigger="workflow_dispatch",
    )
    assert verify_provenance(found, PROGRAM, ROOT) == Build(
        repository="github.com/Bob-2/x._-",
        repository_id="18446744073709551615",
        ref="refs/tags/@bob/x@1.0+a_b#2,c=d%",
        commit="0f" * 32,
        workflow="github.com/Bob-2/x._-/.github/workflows/a.yaml",
    )


def older(document: Any, version: str) -> None:
    """Rewrite a bundle in the form of version 0.1 or 0.2."""
    document["mediaType"] = f"application/vnd.dev.sigstore.bundle+json;version={version}"
    material = document["verificationMaterial"]
    material["x509CertificateChain"] = {"certificates": [material.pop("certificate")]}


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_an_older_form_of_bundle_proves_the_same(version: str) -> None:
    assert verify_provenance(changed(lambda one: older(one, version)), PROGRAM, ROOT) == BUILD


def repeated_member(data: bytes) -> bytes:
    return data.replace(b"{", b'{"mediaType": "x", ', 1)


def nested(data: bytes) -> bytes:
    return data[:-1] + b', "a": ' + b"[" * 65 + b"]" * 65 + b"}"


# PV1
NOT_A_BUNDLE = {
    "empty": b"",
    "no JSON": b"bundle",
    "list": b"[" + bundle() + b"]",
    "several lines": bundle() + b"\n" + bundle(),
    "too long": bundle() + b" " * MAX_BUNDLE_BYTES,
    "repeated member": repeated_member(bundle()),
    "repeated member inside": bundle().replace(b'"sig":', b'"sig": "", "sig":', 1),
    "deep nesting": nested(bundle()),
    "not UTF-8": bundle()[:-1] + b', "a": "\xff"}',
}


@pytest.mark.parametrize("data", NOT_A_BUNDLE.values(), ids=NOT_A_BUNDLE)
def test_a_bundle_is_one_small_json_object(data: bytes) -> None:
    """PV1: a bundle that is not one JSON object of limited size is refused."""
    assert refused_claim(data) == "bundle"


def test_a_bundle_of_the_largest_size_is_read() -> None:
    """PV1: a bundle of the largest allowed size is read."""
    data = bundle()
    assert verify_provenance(data.ljust(MAX_BUNDLE_BYTES), PROGRAM, ROOT) == BUILD


MATERIAL = ("verificationMaterial", "tlogEntries", 0)
PROOF = (*MATERIAL, "inclusionProof")
LATE = BUILT_AT + CERTIFICATE_LIFETIME + timedelta(seconds=1)
EARLY = BUILT_AT - timedelta(seconds=1)
OTHER = SigstoreAuthority()


def with_message_signature(document: Any) -> None:
    envelope = document.pop("dsseEnvelope")
    document["messageSignature"] = {"signature": envelope["signatures"][0]["sig"]}


def with_entry_of(other: bytes) -> Change:
    return lambda document: entry(document).update(entry(json.loads(other)))


def with_promise_of_another_log(document: Any) -> None:
    entry(document)["inclusionPromise"]["signedEntryTimestamp"] = OTHER.promise(entry(document))


def with_checkpoint_of_another_log(document: Any) -> None:
    proof = entry(document)["inclusionProof"]
    proof["checkpoint"] = entry(json.loads(OTHER.bundle(PROGRAM)))["inclusionProof"]["checkpoint"]


def with_stamp(message: bytes, moment: datetime, authority: Any = AUTHORITY) -> Change:
    def change(document: Any) -> None:
        signature = b64decode(document["dsseEnvelope"]["signatures"][0]["sig"])
        document["verificationMaterial"]["timestampVerificationData"] = {
            "rfc3161Timestamps": [
                {
                    "signedTimestamp": b64encode(
                        authority.timestamp(message or signature, moment)
                    ).decode()
                }
            ]
        }

    return change


def without(*path: str | int) -> Change:
    def change(document: Any) -> None:
        *parents, last = path
        for name in parents:
            document = document[name]
        del document[last]

    return change


def twice_in_the_log(document: Any) -> None:
    document["verificationMaterial"]["tlogEntries"] *= 2


def promised_again(document: Any) -> None:
    """Move the time that the log promised."""
    entry(document)["integratedTime"] = str(int(BUILT_AT.timestamp()) + 1)


def with_larger_tree(document: Any) -> None:
    proof = entry(document)["inclusionProof"]
    proof["treeSize"] = "6"
    proof["checkpoint"]["envelope"] = proof["checkpoint"]["envelope"].replace("\n5\n", "\n6\n")


# PV2: what is changed in a bundle, or is signed in it.
UNVERIFIABLE: dict[str, bytes] = {
    "object without members": b"{}",
    "unknown member": changed(lambda one: one.update(more=1)),
    "unknown version": changed(lambda one: one.update(mediaType="application/json")),
    "signature": changed(flip("dsseEnvelope", "signatures", 0, "sig")),
    "two signatures": changed(
        lambda one: one["dsseEnvelope"].update(signatures=one["dsseEnvelope"]["signatures"] * 2)
    ),
    "no signature": changed(lambda one: one["dsseEnvelope"].update(signatures=[])),
    "payload": changed(flip("dsseEnvelope", "payload")),
    "payload type": changed(lambda one: one["dsseEnvelope"].update(payloadType="text/plain")),
    "message signature": changed(with_message_signature),
    "certificate's signature": changed(flip("verificationMaterial", "certificate", "rawBytes")),
    "certificate's claim": changed(
        lambda one: one["verificationMaterial"]["certificate"].update(
            rawBytes=b64encode(
                b64decode(one["verificationMaterial"]["certificate"]["rawBytes"]).replace(
                    b"refs/heads/main", b"refs/heads/mine"
                )
            ).decode()
        )
    ),
    "no certificate": changed(without("verificationMaterial", "certificate")),
    "no entry": changed(lambda one: one["verificationMaterial"].update(tlogEntries=[])),
    "two entries": changed(twice_in_the_log),
    "no inclusion proof": changed(without(*PROOF)),
    "no checkpoint": changed(without(*PROOF, "checkpoint")),
    "proof": changed(flip(*PROOF, "hashes", 0)),
    "root of proof": changed(flip(*PROOF, "rootHash")),
    "shorter proof": changed(without(*PROOF, "hashes", 0)),
    "position": changed(lambda one: entry(one)["inclusionProof"].update(logIndex="2")),
    "size of the log": changed(with_larger_tree),
    "checkpoint of another log": changed(with_checkpoint_of_another_log),
    "log entry": changed(flip(*MATERIAL, "canonicalizedBody")),
    "entry of another bundle": changed(with_entry_of(bundle(commit="b2" * 20))),
    "promise": changed(flip(*MATERIAL, "inclusionPromise", "signedEntryTimestamp")),
    "promise of another log": changed(with_promise_of_another_log),
    "promised time": changed(promised_again),
    "neither promise nor stamp": changed(without(*MATERIAL, "inclusionPromise")),
    "log's digest": deviating(
        log_body={"payloadHash": {"algorithm": "sha256", "value": "00" * 32}}
    ),
    "signed too late": bundle(signed_at=LATE, deviations=Deviations(begins=BUILT_AT)),
    "signed too early": bundle(signed_at=EARLY, deviations=Deviations(begins=BUILT_AT)),
    "stamped too late": bundle(
        signed_at=LATE, log_version=2, deviations=Deviations(begins=BUILT_AT)
    ),
    "stamped too early": bundle(
        signed_at=EARLY, log_version=2, deviations=Deviations(begins=BUILT_AT)
    ),
    "second stamp too late": changed(with_stamp(b"", LATE)),
    "stamp of another signature": changed(with_stamp(b"other", BUILT_AT), log_version=2),
    "stamp of another authority": changed(with_stamp(b"", BUILT_AT, OTHER), log_version=2),
    "no stamp": changed(
        without("verificationMaterial", "timestampVerificationData"), log_version=2
    ),
    "stamp": changed(
        flip(
            "verificationMaterial",
            "timestampVerificationData",
            "rfc3161Timestamps",
            0,
            "signedTimestamp",
        ),
        log_version=2,
    ),
    "everything of another authority": OTHER.bundle(PROGRAM),
    "everything of another authority, stamped": OTHER.bundle(PROGRAM, log_version=2),
    "RSA key": deviating(leaf_key=rsa.generate_private_key(65537, 2048)),
    "Ed25519 key": deviating(leaf_key=ed25519.Ed25519PrivateKey.generate()),
    "repeated claim": deviating(
        claims={99: asn1.encode_der("refs/heads/mine")},
        edit_certificate=lambda body: body.replace(
            asn1.encode_der(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.99")),
            asn1.encode_der(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.14")),
        ),
    ),
}


@pytest.mark.parametrize("data", UNVERIFIABLE.values(), ids=UNVERIFIABLE)
def test_chain_log_time_and_signatures_are_verified(data: bytes) -> None:
    """PV2: a bundle with an invalid chain, log entry, time or signature is refused."""
    assert refused_claim(data) == "signature"


def test_the_library_s_reason_is_one_line() -> None:
    """PV2: the library's reason for a refusal is printed on one line."""
    with pytest.raises(ProvenanceInvalid) as refusal:
        verify_provenance(b"{}", PROGRAM, ROOT)
    assert "2 validation errors for Bundle mediaType Field required" in str(refusal.value)


def root_with(part: str, position: int, **during: str) -> Any:
    """Return the trusted root with another period for an authority or log."""
    document = json.loads(AUTHORITY.trusted_root)
    one = document[part][position]
    (one if "certChain" in one else one["publicKey"])["validFor"] = during
    return parse_trusted_root(json.dumps(document).encode())


def library_accepts(data: bytes, root: Any) -> bool:
    Verifier(trusted_root=root).verify_dsse(Bundle.from_json(data), UnsafeNoOp())
    return True


@pytest.mark.parametrize(
    "during",
    [
        {"start": "2025-01-01T00:00:00Z", "end": "2025-06-01T11:59:59Z"},
        {"start": "2025-06-01T12:00:01Z"},
    ],
    ids=["ended", "not begun"],
)
@pytest.mark.parametrize(
    ("part", "position", "version"),
    [
        ("certificateAuthorities", 0, 1),
        ("certificateAuthorities", 0, 2),
        ("ctlogs", 0, 1),
        ("tlogs", 0, 1),
        ("tlogs", 1, 2),
    ],
)
def test_an_authority_or_log_counts_only_while_it_is_in_force(
    part: str, position: int, version: Any, during: dict[str, str]
) -> None:
    """PV3: an authority or log is refused outside its validity period, although the library accepts
    it."""
    data, root = bundle(log_version=version), root_with(part, position, **during)
    assert library_accepts(data, root)
    assert refused_claim(data, root) == "signature"


@pytest.mark.parametrize("part", ["certificateAuthorities", "ctlogs", "tlogs"])
def test_the_period_of_an_authority_or_log_includes_its_ends(part: str) -> None:
    """PV3."""
    moment = "2025-06-01T12:00:00Z"
    root = root_with(part, 0, start=moment, end=moment)
    assert verify_provenance(bundle(), PROGRAM, root) == BUILD


def test_a_timestamp_authority_counts_only_while_it_is_in_force() -> None:
    """PV3: the library itself refuses a timestamp authority outside its validity period."""
    for during in (
        {"start": "2025-01-01T00:00:00Z", "end": "2025-06-01T11:59:59Z"},
        {"start": "2025-06-01T12:00:01Z"},
    ):
        root = root_with("timestampAuthorities", 0, **during)
        assert refused_claim(bundle(log_version=2), root) == "signature"


@pytest.mark.parametrize(
    "part", ["certificateAuthorities", "ctlogs", "tlogs", "timestampAuthorities"]
)
def test_each_authority_is_needed(part: str) -> None:
    """PV2: a bundle is refused if the trusted root lacks one of its authorities or logs."""
    document = json.loads(AUTHORITY.trusted_root) | {part: []}
    root = parse_trusted_root(json.dumps(document).encode())
    assert refused_claim(bundle(log_version=2), root) == "signature"


def test_certificates_count_only_in_their_lifetime() -> None:
    """PV2: a bundle is refused outside the validity period of the authority's certificates."""
    for moment in (datetime(2024, 12, 31, tzinfo=UTC), datetime(2046, 1, 1, tzinfo=UTC)):
        document = json.loads(AUTHORITY.trusted_root)
        document["certificateAuthorities"][0]["validFor"]["start"] = "2020-01-01T00:00:00Z"
        for one in (*document["tlogs"], *document["ctlogs"]):
            del one["publicKey"]["validFor"]
        root = parse_trusted_root(json.dumps(document).encode())
        with pytest.raises(ProvenanceInvalid, match="cert is not valid at validation time"):
            verify_provenance(bundle(signed_at=moment), PROGRAM, root)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        AUTHORITY.trusted_root + b"\n" + AUTHORITY.trusted_root,
        AUTHORITY.trusted_root.replace(b"{", b'{"mediaType": "", ', 1),
        AUTHORITY.trusted_root + b" " * MAX_TRUSTED_ROOT_BYTES,
        bundle(),
    ],
    ids=["empty", "nothing", "list", "lines", "repeated", "long", "bundle"],
)
def test_a_malformed_trusted_root_is_refused(data: bytes) -> None:
    with pytest.raises(ProvenanceInvalid) as refusal:
        parse_trusted_root(data)
    assert refusal.value.claim == "root"


# PV4
NO_PROVENANCE = {
    "payload type": deviating(payload_type="application/json"),
    "statement type": deviating(statement={"_type": "https://in-toto.io/Statement/v0.1"}),
    "predicate type": deviating(statement={"predicateType": "https://slsa.dev/provenance/v0.2"}),
    "no subjects": deviating(statement={"subject": None}),
    "digest without algorithm": deviating(statement={"subject": [{"digest": PROGRAM}]}),
    "digest that is no text": deviating(statement={"subject": [{"digest": {"sha256": 1}}]}),
    "no JSON": deviating(edit_payload=lambda _: b"statement"),
    "empty": deviating(edit_payload=lambda _: b""),
    "repeated member": deviating(
        edit_payload=lambda text: text.replace(b'"subject":', b'"subject": [], "subject":')
    ),
    "deep nesting": deviating(edit_payload=nested),
}


@pytest.mark.parametrize("data", NO_PROVENANCE.values(), ids=NO_PROVENANCE)
def test_the_payload_is_a_statement_of_provenance(data: bytes) -> None:
    """PV4: a bundle is refused if its payload is not a statement of provenance."""
    assert refused_claim(data) == "statement"


def subjects(*digests: dict[str, str]) -> dict[str, object]:
    return {"subject": [{"name": str(at), "digest": one} for at, one in enumerate(digests)]}


@pytest.mark.parametrize(
    "statement",
    [
        subjects(),
        subjects({"sha256": "5b" * 32}),
        subjects({"sha256": PROGRAM.upper()}),
        subjects({"sha512": PROGRAM}),
        subjects({"SHA256": PROGRAM}),
        subjects({"sha256": f"{PROGRAM}\n"}),
        {"subject": [{"name": PROGRAM, "digest": {}}]},
    ],
    ids=["none", "other", "case", "sha512", "algorithm's case", "line", "name"],
)
def test_provenance_of_other_bytes_is_refused(statement: dict[str, object]) -> None:
    """PV5: provenance of other bytes is refused."""
    assert refused_claim(deviating(statement=statement)) == "digest"


def test_one_of_several_subjects_may_be_the_program() -> None:
    """PV5: the program may be one of several subjects of the provenance."""
    data = deviating(statement=subjects({"sha512": "00"}, {"sha256": "00"}, {"sha256": PROGRAM}))
    assert verify_provenance(data, PROGRAM, ROOT) == BUILD
    assert refused_claim(data, program="00" * 32) == "digest"


CLAIMS = {
    "issuer": 8,
    "signer": 9,
    "environment": 11,
    "repository": 12,
    "commit": 13,
    "ref": 14,
    "repository-id": 15,
    "config": 18,
    "trigger": 20,
}
VALUE = b"refs/heads/main"
NOT_A_CLAIM = {
    "missing": None,
    "empty": b"",
    "PrintableString": b"\x13\x04main",
    "IA5String": b"\x16\x04main",
    "OCTET STRING": asn1.encode_der(VALUE),
    "INTEGER": asn1.encode_der(1001),
    "text alone": VALUE,
    "cut off": asn1.encode_der(VALUE.decode())[:-1],
    "with more after it": asn1.encode_der(VALUE.decode()) + b"\0",
    "long form of length": b"\x0c\x81\x04main",
    "not UTF-8": b"\x0c\x01\xff",
}


@pytest.mark.parametrize("value", NOT_A_CLAIM.values(), ids=NOT_A_CLAIM)
@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_is_one_text(claim: str, value: bytes | None) -> None:
    """PV6: a certificate is refused if a claim is missing or is not a single UTF-8 text."""
    assert refused_claim(deviating(claims={CLAIMS[claim]: value})) == claim


def claimed(claim: str, text: str) -> bytes:
    return deviating(claims={CLAIMS[claim]: asn1.encode_der(text)})


ELSEWHERE = "github.com/mallory/project"

# Claim -> what is refused for it (PV6 to PV10)
REFUSED_ORIGINS: list[tuple[str, str, bytes]] = [
    ("issuer", "Google", bundle(issuer="https://accounts.google.com")),
    ("issuer", "GitHub's sign-in", bundle(issuer="https://github.com/login/oauth")),
    ("issuer", "enterprise", bundle(issuer="https://token.actions.githubusercontent.com/acme")),
    ("issuer", "case", bundle(issuer="https://Token.actions.githubusercontent.com")),
    ("issuer", "slash", bundle(issuer="https://token.actions.githubusercontent.com/")),
    (
        "issuer",
        "a person's identity without other claims",
        deviating(claims={8: asn1.encode_der("https://accounts.google.com"), 9: None, 14: None}),
    ),
    ("signer", "claim", claimed("signer", f"https://{SHARED_WORKFLOW}@refs/heads/main")),
    (
        "signer",
        "name",
        deviating(names=[x509.UniformResourceIdentifier(f"https://{SHARED_WORKFLOW}@refs/x")]),
    ),
    ("signer", "two names", deviating(names=[SIGNER, SIGNER])),
    (
        "signer",
        "two workflows",
        deviating(names=[SIGNER, x509.UniformResourceIdentifier("https://a.example")]),
    ),
    (
        "signer",
        "a mail address beside it",
        deviating(names=[SIGNER, x509.RFC822Name("mallory@example.com")]),
    ),
    ("signer", "mail address", deviating(names=[x509.RFC822Name("mallory@example.com")])),
    ("signer", "characters", claimed("signer", f"https://{BUILD.workflow}@refs/heads/mäin")),
    ("environment", "self-hosted", bundle(environment="self-hosted")),
    ("environment", "empty", bundle(environment="")),
    ("trigger", "pull_request_target", bundle(trigger="pull_request_target")),
    ("workflow", "started elsewhere", bundle(config=f"{ELSEWHERE}/.github/workflows/a.yml@x")),
    ("workflow", "started in a namesake", bundle(config=f"{REPOSITORY}-evil/a.yml@{BUILD.ref}")),
    ("workflow", "started below no repository", claimed("repository", "https://github.com/ali")),
    ("workflow", "repository without a name", claimed("repository", "")),
    (
        "workflow",
        "other ref",
        bundle(workflow=BUILD.workflow, workflow_ref="refs/heads/mine", config=OWN_WORKFLOW),
    ),
    ("workflow", "commit instead of ref", bundle(workflow_ref="a1" * 20, config=OWN_WORKFLOW)),
    (
        "workflow",
        "other ref in the name",
        bundle(workflow=f"{BUILD.workflow}@refs/heads/main", workflow_ref="refs/heads/mine"),
    ),
    *(
        ("repository", name, bundle(repository=repository))
        for name, repository in {
            "other host": "gitlab.com/alice/project",
            "dot after host": "github.com./alice/project",
            "case of host": "GitHub.com/alice/project",
            "port": "github.com:443/alice/project",
            "user": "github.com@evil.example/alice/project",
            "namesake of host": "github.com.evil.example/alice/project",
            "host without GitHub": "alice/project",
            "no name": "github.com/alice",
            "three names": "github.com/alice/project/more",
            "empty owner": "github.com//project",
            "dot": "github.com/alice/.",
            "two dots": "github.com/alice/..",
            "owner with dots": "github.com/../project",
            "space": "github.com/alice/pro ject",
            "line": "github.com/alice/project\n",
            "zero": "github.com/alice/project\0",
            "percent": "github.com/alice/pro%6aect",
            "question": "github.com/alice/project?x",
            "long": f"github.com/alice/{'p' * 101}",
        }.items()
    ),
    (
        "repository",
        "letter of another script",
        deviating(
            claims={
                CLAIMS["repository"]: asn1.encode_der("https://github.com/alice/pr\u043eject"),
                CLAIMS["config"]: asn1.encode_der("https://github.com/alice/pr\u043eject/a.yml@x"),
            }
        ),
    ),
    *(
        ("repository", f"id {value!r}", bundle(repository_id=value))
        for value in ("0", "01001", "-1", "1e3", "0x1", "a", "", " 1001", "1001\n", "1" * 21)
    ),
    ("repository", "id of other digits", claimed("repository-id", "١٠٠١")),
    *(
        ("repository", f"ref {value!r}", bundle(ref=value))
        for value in (
            "main",
            "refs/",
            "refs/heads/a b",
            "refs/heads/main\n",
            "refs/heads/\x1b[2J",
            "refs/heads/\x7f",
            "refs/heads/$(id)",
            "refs/heads/`id`",
            "refs/heads/a;id",
            "Refs/heads/main",
            f"refs/heads/{'a' * 250}",
        )
    ),
    *(
        ("repository", f"commit {value!r}", bundle(commit=value))
        for value in ("", "main", "a1" * 19, "A1" * 20, "a1" * 21, "a1" * 20 + "\n")
    ),
    *(
        (
            "repository",
            f"workflow {path!r}",
            bundle(workflow=f"{where}/{path}", config=OWN_WORKFLOW),
        )
        for where, path in (
            (REPOSITORY, ""),
            (REPOSITORY, ".github/workflows/a b.yml"),
            (REPOSITORY, ".github/workflows/a\n.yml"),
            (REPOSITORY, ".github/workflows/$(id).yml"),
            (REPOSITORY, ".github/workflows/`id`.yml"),
            (REPOSITORY, ".github/workflows/a;id.yml"),
            (REPOSITORY, f".github/workflows/{'a' * 250}.yml"),
            # A workflow of GitHub itself, which is no file of the repository.
            (REPOSITORY, "dynamic/dependabot/dependabot-updates"),
            (REPOSITORY, ".github/workflows/../../a.yml"),
            (REPOSITORY, ".github/workflows"),
            ("gitlab.com/builders/shared", "a.yml"),
            ("github.com/shared", "a.yml"),
        )
    ),
]


@pytest.mark.parametrize(
    ("claim", "data"),
    [pytest.param(claim, data, id=f"{claim}: {name}") for claim, name, data in REFUSED_ORIGINS],
)
def test_origins_that_are_refused(claim: str, data: bytes) -> None:
    """PV6, PV7, PV8, PV9, PV10: each origin in the table is refused."""
    assert refused_claim(data) == claim


def test_an_unsupported_part_of_the_origin_is_named() -> None:
    """PV10: the error names the unsupported part of the origin."""
    with pytest.raises(ProvenanceInvalid, match="certificate states an unsupported ref;"):
        verify_provenance(bundle(ref="refs/heads/$(id)"), PROGRAM, ROOT)


def test_claims_are_read_from_the_certificate_alone() -> None:
    """PV6: claims are read from the certificate, not from the predicate that the workflow
    writes."""
    predicate = {
        "buildDefinition": {
            "externalParameters": {
                "workflow": {"repository": f"https://{ELSEWHERE}", "ref": "refs/heads/mine"}
            }
        }
    }
    data = deviating(statement={"predicate": predicate})
    assert verify_provenance(data, PROGRAM, ROOT) == BUILD
