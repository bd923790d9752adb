"""Verification of where a program was built (PV1 to PV11).

A provenance bundle is what `actions/attest-build-provenance` writes: a Sigstore bundle with a SLSA
provenance statement, version 1. GitHub Actions gets a certificate for each job, and the certificate
names the repository, the ref, the commit and the workflow. All claims are read from the
certificate: the predicate of the statement is written by the workflow itself.

This needs the extra `provenance`. It runs on the machines of developers and owners, and in confined
processes of runners, for grants to all builds of a repository (PV17).

Example:
    root = parse_trusted_root(Path("trusted_root.json").read_bytes())
    build = verify_provenance(bundle, program_sha256, root)
    require_build(build, repository="github.com/alice/project", ref="refs/heads/main")
"""

import re
from codecs import lookup
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509 import Certificate, ObjectIdentifier, SubjectAlternativeName
from msgspec import Struct, field
from sigstore.models import Bundle, ClientTrustConfig, TrustedRoot
from sigstore.verify import Verifier
from sigstore_models.common.v1 import TimeRange
from sigstore_models.trustroot import v1 as trusted_roots

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import parse_json, shaped

from ..documents.builds import GITHUB_ISSUER, MAX_BUNDLE_BYTES, Build, Origin
from ..documents.trusted_roots import MAX_TRUSTED_ROOT_BYTES
from ..errors import ProvenanceInvalid
from ..printable import printable

_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://slsa.dev/provenance/v1"
# Claim -> its last arc below Fulcio's 1.3.6.1.4.1.57264.1; the value is a DER UTF8String.
_CLAIMS = {
    "signer": 9,
    "environment": 11,
    "repository": 12,
    "commit": 13,
    "ref": 14,
    "repository-id": 15,
    "config": 18,
    "trigger": 20,
}


class _Subject(Struct):
    digest: dict[str, str]


class _Statement(Struct, rename="camel"):
    kind: str = field(name="_type")
    predicate_type: str
    subject: list[_Subject]


_NO_SIGNATURE = bytes.fromhex("3006020101020101")
"""A well-formed signature, for `load_library`; nothing is signed with it."""
_ED25519_BASE = bytes([0x58, *[0x66] * 31])
"""The base point as a public key, for `load_library`."""


class _NoPolicy:
    """A policy without conditions: `verify_provenance` checks the claims, after the signatures."""

    def verify(self, cert: Certificate) -> None:
        """Accept the certificate."""


def parse_trusted_root(data: bytes) -> TrustedRoot:
    """Parse a trusted root, the JSON file with Sigstore's authorities and logs.

    Raises:
        ProvenanceInvalid: it is malformed, or longer than MAX_TRUSTED_ROOT_BYTES.
    """
    try:
        parse_json(data, max_bytes=MAX_TRUSTED_ROOT_BYTES)  # limits the size
        return TrustedRoot(trusted_roots.TrustedRoot.from_json(data))
    except Exception as exc:  # the library raises errors of many types
        raise ProvenanceInvalid(
            "the trusted root cannot be read",
            claim="root",
            hint="use the first line of what `gh attestation trusted-root` prints",
        ) from exc


def load_library() -> None:
    """Import and prepare what a verification needs, for a process that then opens no file.

    The libraries load some modules, codecs and algorithms only when they first need them. What is
    missing here makes a later verification fail, so it is refused and never admitted.
    """
    with suppress(ProvenanceInvalid):
        _verify_bundle(b"{}", parse_trusted_root(b"{}"))  # only to load what a verification uses
    for encoding in ("utf_16_be", "utf_32_be", "latin_1", "ascii", "idna"):
        lookup(encoding)
    for curve, algorithm in (
        (ec.SECP256R1(), SHA256()),
        (ec.SECP384R1(), SHA384()),
        (ec.SECP521R1(), SHA512()),
    ):
        key = ec.derive_private_key(1, curve).public_key()
        with suppress(InvalidSignature):
            key.verify(_NO_SIGNATURE, b"", ec.ECDSA(algorithm))
    with suppress(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(_ED25519_BASE).verify(bytes(64), b"")
    with suppress(InvalidSignature):
        rsa.RSAPublicNumbers(3, (1 << 2047) + 1).public_key().verify(
            bytes(256), b"", PKCS1v15(), SHA256()
        )


def fetch_trusted_root() -> TrustedRoot:
    """Download Sigstore's current trusted root, verified by TUF.

    Raises:
        ProvenanceInvalid: it cannot be downloaded, or its metadata have expired.
    """
    try:
        return ClientTrustConfig.production().trusted_root
    except Exception as exc:  # the library and the network raise errors of many types
        raise ProvenanceInvalid(
            "Sigstore's trusted root cannot be downloaded, or has expired",
            claim="root",
            hint="connect this machine to the internet, or name a file: --trusted-root FILE",
        ) from exc


def verify_provenance(bundle: bytes, sha256: str, root: TrustedRoot) -> Build:
    """Verify that GitHub Actions built the bytes with a hash, and return where from.

    Args:
        bundle: a Sigstore bundle, JSON, untrusted.
        sha256: hash of the program, 64 lower-case hex digits.
        root: Sigstore's authorities and logs, trusted.
    Returns:
        The verified origin.
    Raises:
        ProvenanceInvalid: the bundle is invalid; its `claim` says which check failed first.
    Does not check:
        Whether this origin is the wanted one: see `require_build`.
    """
    return _build_of(_claims_about(bundle, sha256, root))


def verify_origin(bundle: bytes, sha256: str, root: TrustedRoot) -> Origin:
    """Verify a bundle as `verify_provenance` does, and return all that its certificate states.

    Args:
        bundle: a Sigstore bundle, JSON, untrusted.
        sha256: hash of the program, 64 lower-case hex digits.
        root: Sigstore's authorities and logs, trusted.
    Raises:
        ProvenanceInvalid: the same errors as `verify_provenance`; also if the certificate states no
            run (PV19).
    Does not check:
        Whether this origin is the wanted one: see `sealspace.documents.builds.require_trusted`.
    """
    certificate = _claims_about(bundle, sha256, root)
    build = _build_of(certificate)
    uri = _claim(certificate, "run", 21)
    # PV19: a run of another repository would be counted apart from the runs of this one
    run_match = re.fullmatch(
        rf"https://{re.escape(build.repository)}/actions/runs/([1-9][0-9]{{0,14}})"
        r"/attempts/([1-9][0-9]{0,5})",
        uri,
        re.ASCII,
    )
    if run_match is None:
        raise ProvenanceInvalid("the certificate states no run of the repository", claim="run")
    return Origin(
        build=build,
        issuer=_claim(certificate, "issuer", 8),
        source_workflow=_claim(certificate, "config", 18).removeprefix("https://"),
        signer=_claim(certificate, "signer", 9).removeprefix("https://"),
        run=int(run_match[1]),
        attempt=int(run_match[2]),
    )


def _claims_about(bundle: bytes, sha256: str, root: TrustedRoot) -> Certificate:
    """Verify a bundle about the program with a hash, and return its certificate."""
    verified = _verify_bundle(bundle, root)
    # PV4: the payload must be a statement of SLSA provenance
    try:
        stated = shaped(parse_json(verified.payload, max_bytes=MAX_BUNDLE_BYTES), _Statement)
    except InvalidJson as exc:
        raise ProvenanceInvalid("the signed statement is malformed", claim="statement") from exc
    stated_types = (verified.payload_type, stated.kind, stated.predicate_type)
    _require("statement", stated_types, (_PAYLOAD, _STATEMENT, _PREDICATE))
    # PV5: it must be about this program
    if not any(subject.digest.get("sha256") == sha256 for subject in stated.subject):
        raise ProvenanceInvalid(
            f"the provenance is about other bytes than the program {sha256}", claim="digest"
        )
    return verified.certificate


def require_build(
    build: Build,
    *,
    repository: str,
    ref: str,
    repository_id: str | None = None,
    workflow: str | None = None,
) -> None:
    """Check that a verified origin is the wanted one (PV11).

    Args:
        build: the result of `verify_provenance`.
        repository: `github.com/OWNER/NAME`.
        ref: full name of the branch or tag.
        repository_id: number of the repository, if one is known from before.
        workflow: file of the workflow as in `Build`; None: any of the repository itself.
    Raises:
        ProvenanceInvalid: a part differs; its `claim` says which is the first.
    """
    if repository_id == build.repository_id and repository != build.repository:
        raise ProvenanceInvalid(
            f"the repository {repository} is now named {build.repository}",
            claim="repository",
            hint=f"if you trust the new name, grant again: --repository {build.repository}",
        )
    _require("repository", build.repository, repository)
    if repository_id not in (None, build.repository_id):
        raise ProvenanceInvalid(
            f"{repository} is another repository now: its number on GitHub is"
            f" {build.repository_id}, and was {repository_id}",
            claim="repository-id",
            hint="the repository was deleted, renamed or transferred, and another one took its"
            " name; only if you trust the new owner, run `sealspace runner revoke URL`, and grant"
            " again",
        )
    _require("ref", build.ref, ref)
    if workflow is not None:
        _require("workflow", build.workflow, workflow)
    elif not build.workflow.startswith(f"{repository}/"):
        raise ProvenanceInvalid(
            f"the program was built by a workflow of another repository, {build.workflow}",
            claim="workflow",
            hint=f"if you trust this workflow: --workflow {build.workflow}",
        )


class _VerifiedBundle(NamedTuple):
    """What a bundle contains, after its signature was verified."""

    certificate: Certificate
    payload_type: str
    payload: bytes


def _verify_bundle(bundle: bytes, root: TrustedRoot) -> _VerifiedBundle:
    """Verify the signature of a bundle, but not what it states."""
    # PV1: size and repeated members are checked before the library parses anything
    try:
        parse_json(bundle, max_bytes=MAX_BUNDLE_BYTES)
    except InvalidJson as exc:
        raise ProvenanceInvalid(
            f"the provenance bundle is longer than {MAX_BUNDLE_BYTES} bytes or is not a JSON"
            " object",
            claim="bundle",
            hint="give one bundle, not a file with several lines",
        ) from exc
    # PV2: the library verifies the certificate chain and its log, the inclusion proof, the time of
    # signing and the signature
    try:
        signed = Bundle.from_json(bundle)
        certificate = signed.signing_certificate
        verifier = Verifier(
            # Authorities that were not in force when the certificate began do not count (PV3).
            trusted_root=_valid_at(root, certificate.not_valid_before_utc)
        )
        payload_type, payload = verifier.verify_dsse(signed, _NoPolicy())
        return _VerifiedBundle(certificate=certificate, payload_type=payload_type, payload=payload)
    except BaseException as exc:  # the library raises errors of many types
        if not isinstance(exc, Exception) and not _is_panic(exc):
            raise
        reason = printable(" ".join(str(exc)[:400].split()), most=200)
        raise ProvenanceInvalid(
            f"the provenance bundle cannot be verified: {reason}", claim="signature"
        ) from exc


def _is_panic(error: BaseException) -> bool:
    """Return whether a part in Rust met what it did not expect.

    Such an error is no `Exception`. A certificate whose name is no UTF-8 causes one.
    """
    return type(error).__module__ == "pyo3_runtime"


def _build_of(certificate: Certificate) -> Build:
    """Return the build that a verified certificate states."""
    # PV6: the certificate must be that of one job of GitHub Actions
    _require("issuer", _claim(certificate, "issuer", 8), GITHUB_ISSUER)
    claims = {name: _claim(certificate, name, arc) for name, arc in _CLAIMS.items()}
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    _require("signer", [general_name.value for general_name in names], [claims["signer"]])
    # PV7: the job must have run on a machine of GitHub
    _require("environment", claims["environment"], "github-hosted")
    # PV8: this trigger gives code of strangers the rights of the repository
    if claims["trigger"] == "pull_request_target":
        raise ProvenanceInvalid(
            "the program was built for pull_request_target, which runs with the rights of the"
            " repository on code of strangers",
            claim="trigger",
        )
    # PV9: the workflow that GitHub started is of this repository. The workflow that signed is of
    # this repository and ref, or of another repository.
    repository, ref = claims["repository"], claims["ref"]
    workflow, _, workflow_ref = claims["signer"].partition("@")
    is_own_config = claims["config"].startswith(f"{repository}/")
    is_own_workflow = workflow.startswith(f"{repository}/")
    if not is_own_config or (is_own_workflow and workflow_ref != ref):
        raise ProvenanceInvalid(
            "the workflow is of another repository or ref than the source", claim="workflow"
        )
    try:
        # PV10: every claim must have the form that it has in statements about a version
        return shaped(
            {
                "repository": repository.removeprefix("https://"),
                "repositoryId": claims["repository-id"],
                "ref": ref,
                "commit": claims["commit"],
                "workflow": workflow.removeprefix("https://"),
            },
            Build,
        )
    except InvalidJson as exc:
        # The text is like "$.repositoryId has an invalid value".
        member = exc.text.removeprefix("$.").split()[0]
        raise ProvenanceInvalid(
            f"the certificate states an unsupported {member}", claim="repository"
        ) from exc


def _require(claim: str, stated: object, wanted: object) -> None:
    if stated != wanted:
        raise ProvenanceInvalid(
            f"the provenance names another {claim}: {printable(str(stated), most=200)} instead of"
            f" {wanted}",
            claim=claim,
        )


def _claim(certificate: Certificate, name: str, arc: int) -> str:
    """Return a claim of the certificate (PV6)."""
    oid = ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{arc}")
    try:
        extension = certificate.extensions.get_extension_for_oid(oid).value
        return asn1.decode_der(str, extension.public_bytes())
    except Exception as exc:  # missing, repeated or of another type
        raise ProvenanceInvalid(f"the certificate states no {name}", claim=name) from exc


def _valid_at(root: TrustedRoot, moment: datetime) -> TrustedRoot:
    """Return a trusted root with the authorities and logs of one moment (PV3).

    The library also accepts those whose time in the trusted root had ended.
    """

    def contains_moment(period: TimeRange | None) -> bool:
        if period is None:
            return True
        has_begun = period.start <= moment
        has_ended = period.end is not None and period.end < moment
        return has_begun and not has_ended

    inner = root._inner
    authorities = [
        authority
        for authority in inner.certificate_authorities
        if contains_moment(authority.valid_for)
    ]
    logs = [log for log in inner.tlogs if contains_moment(log.public_key.valid_for)]
    certificate_logs = [log for log in inner.ctlogs if contains_moment(log.public_key.valid_for)]
    return TrustedRoot(
        inner.model_copy(
            update={
                "certificate_authorities": authorities,
                "tlogs": logs,
                "ctlogs": certificate_logs,
            }
        )
    )
