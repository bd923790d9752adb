"""Tests of provenance bundles of the public Sigstore instance (see tests/README.md).

Each is verified with the trusted root beside it, or else with that of the library, and again after
single changes.
"""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from sigstore._internal.tuf import DEFAULT_TUF_URL
from sigstore._utils import read_embedded
from sigstore.models import TrustedRoot

from sealspace.apps.provenance import parse_trusted_root, require_build, verify_provenance
from sealspace.documents.builds import Build
from sealspace.errors import ProvenanceInvalid

FOLDER_VARIABLE = "SEALSPACE_BUNDLES"
FOLDER = Path(os.environ.get(FOLDER_VARIABLE, "/nonexistent"))
ROOT = parse_trusted_root(read_embedded("trusted_root.json", DEFAULT_TUF_URL))

pytestmark = pytest.mark.skipif(
    FOLDER_VARIABLE not in os.environ, reason=f"{FOLDER_VARIABLE} names no folder with bundles"
)

SUITE = "sigstore/sigstore-conformance/test/assets/bundle-verify"
BCR = "slsa-framework/slsa-verifier/cli/slsa-verifier/testdata/bcr"
JAVA = "sigstore/sigstore-java/sigstore-java/src/test/resources/dev/sigstore/samples/bundles/bundle"
BEACON = "github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon"


class Proven(NamedTuple):
    """A bundle, its program, and the origin that it proves."""

    path: str
    program: str
    build: Build


def proven(path: str, program: str, repository: str, number: str, commit: str, **more: str) -> Any:
    ref = more.get("ref", "refs/heads/main")
    workflow = more["workflow"]
    build = Build(
        repository=repository,
        repository_id=number,
        ref=ref,
        commit=commit,
        workflow=workflow if workflow.startswith("github.com/") else f"{repository}/{workflow}",
    )
    return pytest.param(Proven(path, program, build), id="/".join(path.split("/")[-2:]))


CASES = [
    proven(
        "letmehateu/automata-slsa-sigstore-verifier/samples/"
        "actions-attest-build-provenance-attestation-13532655.sigstore.json",
        "bb030cb9e028ff6d4051f2103b3b08f7e3928aa80a7d3626cef6e2553dc714b8",
        "github.com/actions/attest-build-provenance",
        "760702757",
        "ba965ac88abfc6fa49344893ed19e5bf479a07d6",
        workflow=".github/workflows/prober.yml",
    ),
    proven(
        f"{JAVA}.dsse.sigstore",
        "a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf",
        "github.com/loosebazooka/aa-test",
        "891715444",
        "ebff8dfbd609b7b22237c7719ce07f2dc7934f5f",
        workflow=".github/workflows/provenance.yaml",
    ),
    proven(
        f"{BCR}/MODULE-wrong-signer.bazel.intoto.jsonl",
        "06ce330900a7d6403bc8d88e5dfad6aeeb8ae40179f66bb89e69c8bf6f6b1a0b",
        "github.com/loosebazooka/aa-test",
        "891715444",
        "9b0800a2e136cb7c321bfdf49f73d0425e501cc3",
        workflow=".github/workflows/malicious_attestation.yaml",
    ),
    proven(
        f"{BCR}/MODULE.bazel.intoto.jsonl",
        "06ce330900a7d6403bc8d88e5dfad6aeeb8ae40179f66bb89e69c8bf6f6b1a0b",
        "github.com/aspect-build/rules_lint",
        "631710741",
        "8f70009fde0c94ade6ce2a054b94718c819126ec",
        ref="refs/heads/publish-to-bcr",
        workflow="github.com/bazel-contrib/publish-to-bcr/.github/workflows/publish.yaml",
    ),
    proven(
        f"{BCR}/rules_lint-v1.3.1.tar.gz.intoto.jsonl",
        "1636f443b01c9ee310ee5834956d0dce374c3d3bf8d4cebc9f6b86f8304b4982",
        "github.com/aspect-build/rules_lint",
        "631710741",
        "8f70009fde0c94ade6ce2a054b94718c819126ec",
        ref="refs/heads/publish-to-bcr",
        workflow="github.com/bazel-contrib/.github/.github/workflows/release_ruleset.yaml",
    ),
    proven(
        "cli/cli/pkg/cmd/attestation/test/data/reusable-workflow-attestation.sigstore.json",
        "49a3aa6075e0f49f82843e74b5baa614ad2a588e6675612bf108a0a008c5ac25",
        "github.com/malancas/attest-demo",
        "804070735",
        "95baf27389e83e6a5c48f42e190d48d7abcea19e",
        workflow="github.com/github/artifact-attestations-workflows/.github/workflows/attest.yml",
    ),
    proven(
        f"{SUITE}/happy-path-intoto-in-dsse-v3/bundle.sigstore.json",
        "a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf",
        BEACON,
        "632596897",
        "82a3bfe6dd50fe9c71d6315eae66da15307856cf",
        workflow=".github/workflows/extremely-dangerous-oidc-beacon.yml",
    ),
    # Its time is a timestamp authority's; the others have the promise of a log.
    proven(
        f"{SUITE}/rekor2-dsse-happy-path/bundle.sigstore.json",
        "a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf",
        BEACON,
        "632596897",
        "977e8d08554ca9bda279c96e91be2119fb67c730",
        workflow=".github/workflows/extremely-dangerous-oidc-beacon.yml",
    ),
]

# Bundles whose signatures the library accepts, and that prove no origin.
NOT_ACCEPTED = {
    "cli/cli/pkg/cmd/attestation/test/data/custom-issuer.sigstore.json": (
        "afa27b44d43b02a9fea41d13cedc2e4016cfcf87c5dbf990e593669aa8ce286d",
        "issuer",
    ),
    f"{JAVA}.dsse.rekor-v2.sigstore": (
        "a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf",
        "issuer",
    ),
    "slsa-framework/slsa-verifier/cli/slsa-verifier/testdata/gha_generic/v2.1.0/"
    "binary-linux-amd64-push-v14.intoto.jsonl": (
        "376e7e01348585b6e6643bc6663146b9d525d9b41228bf180eaeb4d4a3706caa",
        "statement",
    ),
    "sigstore/sigstore-js/tests/bundles/bundleV03-dsse.sigstore": ("00" * 32, "statement"),
}

CLAIMS = {9: "signer", 11: "environment", 12: "repository", 13: "commit", 14: "ref", 15: "id"} | {
    18: "config",
    20: "trigger",
}


def read(path: str) -> bytes:
    file = FOLDER / path
    if not file.exists():
        pytest.skip(f"{FOLDER_VARIABLE} has no {path}")
    return file.read_bytes()


def root_beside(path: str) -> TrustedRoot:
    file = (FOLDER / path).with_name("trusted_root.json")
    return parse_trusted_root(file.read_bytes()) if file.exists() else ROOT


def refused_claim(data: bytes, program: str, root: TrustedRoot) -> str:
    with pytest.raises(ProvenanceInvalid) as refusal:
        verify_provenance(data, program, root)
    return refusal.value.claim


def flipped(text: str, at: int) -> str:
    data = bytearray(b64decode(text))
    data[at] ^= 1
    return b64encode(bytes(data)).decode()


def flip(*path: str | int, at: int = -8) -> Callable[[Any], None]:
    """Return a change that flips a bit of the member at a path below the bundle."""

    def change(document: Any) -> None:
        *parents, last = path
        for name in parents:
            document = document[name]
        document[last] = flipped(document[last], at)

    return change


ENTRY = ("verificationMaterial", "tlogEntries", 0)
EVERYWHERE = {
    "signature": flip("dsseEnvelope", "signatures", 0, "sig"),
    "statement": flip("dsseEnvelope", "payload", at=20),
    "certificate": flip("verificationMaterial", "certificate", "rawBytes"),
    "entry": flip(*ENTRY, "canonicalizedBody"),
    "root of proof": flip(*ENTRY, "inclusionProof", "rootHash"),
    "proof": flip(*ENTRY, "inclusionProof", "hashes", 0),
}
STAMPS = ("verificationMaterial", "timestampVerificationData", "rfc3161Timestamps")


def later(document: Any) -> None:
    entry = document["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 1)


PROMISED = {
    "time": later,
    "promise": flip(*ENTRY, "inclusionPromise", "signedEntryTimestamp"),
    "no promise": lambda one: one["verificationMaterial"]["tlogEntries"][0].pop("inclusionPromise"),
}
STAMPED = {
    "time": flip(*STAMPS, 0, "signedTimestamp"),
    "no timestamp": lambda one: one["verificationMaterial"].pop("timestampVerificationData"),
}


def with_claim(document: Any, arc: int) -> None:
    """Change the last byte of a claim in the certificate."""
    leaf = document["verificationMaterial"]["certificate"]
    data = b64decode(leaf["rawBytes"])
    oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{arc}")
    extension = x509.load_der_x509_certificate(data).extensions.get_extension_for_oid(oid).value
    value = extension.public_bytes()
    other = value[:-1] + bytes([value[-1] ^ 1])
    assert asn1.decode_der(str, other)
    changed = data.replace(
        asn1.encode_der(oid) + asn1.encode_der(value), asn1.encode_der(oid) + asn1.encode_der(other)
    )
    assert changed != data
    leaf["rawBytes"] = b64encode(changed).decode()


@pytest.mark.parametrize("case", CASES)
def test_a_real_bundle_proves_its_origin(case: Proven) -> None:
    """PV2 to PV11: the library's built-in trusted root verifies a real bundle without a network."""
    data, build = read(case.path), case.build
    assert verify_provenance(data, case.program, root_beside(case.path)) == build
    wanted = {"repository": build.repository, "ref": build.ref, "workflow": build.workflow}
    require_build(build, **wanted, repository_id=build.repository_id)
    for claim, other in {
        "repository": {"repository": "github.com/alice/project"},
        "repository-id": {"repository_id": "1"},
        "ref": {"ref": "refs/heads/other"},
        "workflow": {"workflow": f"{build.repository}/.github/workflows/other.yml"},
    }.items():
        with pytest.raises(ProvenanceInvalid) as refusal:
            require_build(build, **(wanted | other))
        assert refusal.value.claim == claim
    if not build.workflow.startswith(f"{build.repository}/"):
        with pytest.raises(ProvenanceInvalid) as refusal:
            require_build(build, repository=build.repository, ref=build.ref)
        assert refusal.value.claim == "workflow"


@pytest.mark.parametrize("case", CASES)
def test_a_real_bundle_is_refused_after_any_change(case: Proven) -> None:
    """PV2, PV5: a real bundle is refused after any change."""
    data, root = read(case.path), root_beside(case.path)
    assert refused_claim(data, "00" * 32, root) == "digest"
    promised = "inclusionPromise" in json.loads(data)["verificationMaterial"]["tlogEntries"][0]
    changes = EVERYWHERE | (PROMISED if promised else STAMPED)
    for name, change in changes.items():
        document = json.loads(data)
        change(document)
        assert refused_claim(json.dumps(document).encode(), case.program, root) == "signature", name
    for arc, name in CLAIMS.items():
        document = json.loads(data)
        with_claim(document, arc)
        assert refused_claim(json.dumps(document).encode(), case.program, root) == "signature", name


@pytest.mark.parametrize("path", NOT_ACCEPTED, ids=[one.rpartition("/")[2] for one in NOT_ACCEPTED])
def test_a_real_bundle_of_another_kind_is_refused(path: str) -> None:
    """PV4, PV6: a bundle of an enterprise issuer, of a person, or with another predicate is
    refused."""
    program, claim = NOT_ACCEPTED[path]
    assert refused_claim(read(path), program, ROOT) == claim


def test_a_real_bundle_needs_an_authority_that_is_in_force() -> None:
    """PV3: a bundle is refused if its certificate authority's period ended before the certificate
    began."""
    for parameters in CASES:
        case = parameters.values[0]
        data = read(case.path)
        document = json.loads(root_beside(case.path)._inner.to_json())
        for one in document["certificateAuthorities"]:
            one["validFor"] |= {"end": "2023-01-01T00:00:00Z"}
        ended = parse_trusted_root(json.dumps(document).encode())
        assert refused_claim(data, case.program, ended) == "signature"


def subject_of(data: bytes) -> str:
    """Return the digest that a bundle is about, so that the digest causes no refusal."""
    try:
        statement = json.loads(b64decode(json.loads(data)["dsseEnvelope"]["payload"]))
        return str(statement["subject"][0]["digest"]["sha256"])
    except (ValueError, KeyError):
        return "00" * 32


def test_every_bundle_that_the_conformance_suite_expects_to_fail_is_refused() -> None:
    """PV1, PV2: every bundle that the conformance suite expects to fail is refused."""
    folders = sorted((FOLDER / SUITE).glob("*_fail"))
    if not folders:
        pytest.skip(f"{FOLDER_VARIABLE} has no {SUITE}")
    for folder in folders:
        path = f"{SUITE}/{folder.name}/bundle.sigstore.json"
        data = read(path)
        with pytest.raises(ProvenanceInvalid) as refusal:
            verify_provenance(data, subject_of(data), root_beside(path))
        assert refusal.value.claim in ("bundle", "root", "signature"), folder.name
    assert len(folders) >= 49
