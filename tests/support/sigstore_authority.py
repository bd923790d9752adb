"""A private Sigstore for tests: certificate authority, certificate log, transparency logs,
timestamp authority.

Keys, certificates, signatures and proofs are real. The library and the commands verify them as they
verify those of the public instance, with `trusted_root` in place of the public one.

Example:
    authority = SigstoreAuthority()
    root = parse_trusted_root(authority.trusted_root)
    build = verify_provenance(authority.bundle(sha256), sha256, root)
"""

import hashlib
import json
import struct
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

BUILT_AT = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
CERTIFICATE_LIFETIME = timedelta(minutes=10)
CERTIFICATES_FROM = datetime(2025, 1, 1, tzinfo=UTC)
CERTIFICATES_TO = datetime(2045, 1, 1, tzinfo=UTC)

SIGNED_NOTE = "authority.example"

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_OID = x509.ObjectIdentifier
_SHA256 = _OID("2.16.840.1.101.3.4.2.1")
_ECDSA_WITH_SHA256 = _OID("1.2.840.10045.4.3.2")


@dataclass(frozen=True, kw_only=True)
class Deviations:
    """Deviations of a bundle from an ordinary one.

    Attributes:
        claims: last arc below 1.3.6.1.4.1.57264.1 -> DER of the value; None leaves the claim out.
        names: alternative names of the certificate in place of the workflow.
        statement: members of the statement that replace the ordinary ones.
        payload_type: type of the signed payload.
        edit_payload: rewrites the payload before it is signed.
        leaf_key: the key that signs the envelope.
        edit_certificate: rewrites the body of the certificate, DER, before it is signed.
        begins: begin of the certificate's lifetime; None: the time of signing.
        log_body: members of the specification in the log's entry that replace the ordinary ones.
    """

    claims: Mapping[int, bytes | None] = field(default_factory=dict)
    names: Sequence[x509.GeneralName] | None = None
    statement: Mapping[str, object] = field(default_factory=dict)
    payload_type: str = "application/vnd.in-toto+json"
    edit_payload: Callable[[bytes], bytes] = bytes
    leaf_key: Key | None = None
    edit_certificate: Callable[[bytes], bytes] = bytes
    begins: datetime | None = None
    log_body: Mapping[str, object] = field(default_factory=dict)


_ORDINARY = Deviations()


class SigstoreAuthority:
    """A private certificate authority, certificate log and transparency logs.

    Attributes:
        trusted_root: its `trusted_root.json`.
    """

    def __init__(self) -> None:
        self._serials = count(1)
        self._root_key, self._ca_key, self._certificate_log, self._log, self._leaf = (
            _ec_key() for _ in range(5)
        )
        self._stamp_root_key, self._stamp_key = _ec_key(), _ec_key()
        self._second_log = ed25519.Ed25519PrivateKey.generate()
        certify = partial(_certify, begins=CERTIFICATES_FROM, ends=CERTIFICATES_TO)
        ca = [(x509.BasicConstraints(ca=True, path_length=1), True), (_usage(signs=False), True)]
        sub_ca = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_usage(signs=False), True),
        ]
        self._root = certify("root", self._root_key, "root", self._root_key, ca)
        self._ca = certify("intermediate", self._ca_key, "root", self._root_key, sub_ca)
        stamp_root = certify(
            "stamp root", self._stamp_root_key, "stamp root", self._stamp_root_key, ca
        )
        self._stamp = certify(
            "stamp",
            self._stamp_key,
            "stamp root",
            self._stamp_root_key,
            [
                (_usage(signs=True), True),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True),
            ],
        )
        self.trusted_root = json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [
                    _log_instance(self._log, "PKIX_ECDSA_P256_SHA_256"),
                    _log_instance(self._second_log, "PKIX_ED25519"),
                ],
                "certificateAuthorities": [_authority(self._ca, self._root)],
                "ctlogs": [_log_instance(self._certificate_log, "PKIX_ECDSA_P256_SHA_256")],
                "timestampAuthorities": [_authority(self._stamp, stamp_root)],
            }
        ).encode()

    def bundle(
        self,
        sha256: str,
        *,
        repository: str = "github.com/alice/project",
        repository_id: str = "1001",
        ref: str = "refs/heads/main",
        commit: str = "a1" * 20,
        workflow: str | None = None,
        workflow_ref: str | None = None,
        config: str | None = None,
        trigger: str = "push",
        environment: str = "github-hosted",
        issuer: str = "https://token.actions.githubusercontent.com",
        run: int = 1,
        attempt: int = 1,
        signed_at: datetime = BUILT_AT,
        log_version: Literal[1, 2] = 1,
        deviations: Deviations = _ORDINARY,
    ) -> bytes:
        """Return a provenance bundle about bytes with a hash.

        Args:
            sha256: hash of the program, hex.
            repository: `github.com/OWNER/NAME`.
            repository_id: GitHub's number of the repository.
            ref: full name of the branch or tag.
            commit: full hash of the commit.
            workflow: file of the workflow that signs, as `github.com/OWNER/NAME/PATH`.
            workflow_ref: ref of this workflow; None: that of the source.
            config: file and ref of the workflow that GitHub started; None: the one that signs.
            trigger: event that started the job.
            environment: kind of machine.
            issuer: issuer of the job's identity.
            run: number of the workflow run.
            attempt: number of the attempt at this run.
            signed_at: time of signing.
            log_version: version of the transparency log: 1 promises and states a time, with 2 a
                timestamp authority does.
            deviations: what differs from an ordinary bundle.
        """
        workflow = workflow or f"{repository}/.github/workflows/release.yml"
        signer = f"https://{workflow}@{workflow_ref or ref}"
        begins = deviations.begins or signed_at
        values = {
            8: issuer,
            9: signer,
            10: commit,
            11: environment,
            12: f"https://{repository}",
            13: commit,
            14: ref,
            15: repository_id,
            16: f"https://{repository.rpartition('/')[0]}",
            17: "2002",
            18: f"https://{config}" if config else signer,
            19: commit,
            20: trigger,
            21: f"https://{repository}/actions/runs/{run}/attempts/{attempt}",
            22: "public",
        }
        claims = {arc: asn1.encode_der(value) for arc, value in values.items()} | dict(
            deviations.claims
        )
        names = deviations.names or [x509.UniformResourceIdentifier(signer)]
        key = deviations.leaf_key or self._leaf
        certificate = self._leaf_certificate(key, names, claims, begins, deviations)
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "program.wasm", "digest": {"sha256": sha256}}],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                    "externalParameters": {
                        "workflow": {"ref": ref, "repository": f"https://{repository}"}
                    },
                },
                "runDetails": {"builder": {"id": signer}},
            },
        } | dict(deviations.statement)
        payload = deviations.edit_payload(json.dumps(statement).encode())
        kind = deviations.payload_type
        to_sign = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
        signature = _signed(key, to_sign)
        material: dict[str, Any] = {"certificate": {"rawBytes": _b64(certificate)}}
        if log_version == 1:
            entry = self._entry(certificate, payload, signature, signed_at, deviations)
        else:
            entry = self._second_entry(certificate, to_sign, signature, deviations)
            material["timestampVerificationData"] = {
                "rfc3161Timestamps": [
                    {"signedTimestamp": _b64(self.timestamp(signature, signed_at))}
                ]
            }
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": material | {"tlogEntries": [entry]},
                "dsseEnvelope": {
                    "payload": _b64(payload),
                    "payloadType": kind,
                    "signatures": [{"sig": _b64(signature)}],
                },
            }
        ).encode()

    def promise(self, entry: Mapping[str, Any]) -> str:
        """Return the first log's promise for an entry of a bundle, base64."""
        promised = {
            "body": entry["canonicalizedBody"],
            "integratedTime": int(entry["integratedTime"]),
            "logID": _key_id(self._log).hex(),
            "logIndex": int(entry["logIndex"]),
        }
        text = json.dumps(promised, sort_keys=True, separators=(",", ":"))
        return _b64(_signed(self._log, text.encode()))

    def timestamp(self, message: bytes, moment: datetime) -> bytes:
        """Return a response of the timestamp authority (RFC 3161), DER."""
        sha256 = _der(0x30, asn1.encode_der(_SHA256))
        imprint = _der(0x30, sha256, asn1.encode_der(hashlib.sha256(message).digest()))
        info = _der(
            0x30,
            asn1.encode_der(1),
            asn1.encode_der(_OID("1.3.6.1.4.1.57264.2")),
            imprint,
            asn1.encode_der(next(self._serials)),
            asn1.encode_der(asn1.GeneralizedTime(moment)),
        )
        info_type = asn1.encode_der(_OID("1.2.840.113549.1.9.16.1.4"))
        attributes = sorted(
            _der(0x30, asn1.encode_der(_OID(oid)), _der(0x31, value))
            for oid, value in {
                "1.2.840.113549.1.9.3": info_type,
                "1.2.840.113549.1.9.4": asn1.encode_der(hashlib.sha256(info).digest()),
            }.items()
        )
        signer = _der(
            0x30,
            asn1.encode_der(1),
            _der(
                0x30, self._stamp.issuer.public_bytes(), asn1.encode_der(self._stamp.serial_number)
            ),
            sha256,
            _der(0xA0, *attributes),
            _der(0x30, asn1.encode_der(_ECDSA_WITH_SHA256)),
            asn1.encode_der(_signed(self._stamp_key, _der(0x31, *attributes))),
        )
        signed_data = _der(
            0x30,
            asn1.encode_der(3),
            _der(0x31, sha256),
            _der(0x30, info_type, _der(0xA0, asn1.encode_der(info))),
            _der(0xA0, self._stamp.public_bytes(Encoding.DER)),
            _der(0x31, signer),
        )
        content = _der(0x30, asn1.encode_der(_OID("1.2.840.113549.1.7.2")), _der(0xA0, signed_data))
        return _der(0x30, _der(0x30, asn1.encode_der(0)), content)

    def _leaf_certificate(
        self,
        key: Key,
        names: Sequence[x509.GeneralName],
        claims: Mapping[int, bytes | None],
        begins: datetime,
        deviations: Deviations,
    ) -> bytes:
        """Return a certificate with a timestamp of the certificate log in it, DER."""
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (_usage(signs=True), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.SubjectAlternativeName(names), True),
            *(
                (x509.UnrecognizedExtension(_OID(f"1.3.6.1.4.1.57264.1.{arc}"), value), False)
                for arc, value in claims.items()
                if value is not None
            ),
        ]
        sign = partial(
            _certify,
            "",
            key,
            "intermediate",
            self._ca_key,
            serial=next(self._serials),
            begins=begins,
            ends=begins + CERTIFICATE_LIFETIME,
        )
        logged = deviations.edit_certificate(sign(extensions).tbs_certificate_bytes)
        milliseconds = int(begins.timestamp() * 1000)
        length = len(logged).to_bytes(3)
        stated = (
            struct.pack(">BBQH", 0, 0, milliseconds, 1)
            + _key_id(self._ca_key)
            + length
            + logged
            + bytes(2)
        )
        signature = _signed(self._certificate_log, stated)
        sct = (
            b"\0"
            + _key_id(self._certificate_log)
            + struct.pack(">QHBBH", milliseconds, 0, 4, 3, len(signature))
            + signature
        )
        listed = struct.pack(">HH", len(sct) + 2, len(sct)) + sct
        proof = x509.UnrecognizedExtension(
            ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS, asn1.encode_der(listed)
        )
        body = deviations.edit_certificate(
            sign([*extensions, (proof, False)]).tbs_certificate_bytes
        )
        return _der(
            0x30,
            body,
            _der(0x30, asn1.encode_der(_ECDSA_WITH_SHA256)),
            _der(0x03, b"\0", _signed(self._ca_key, body)),
        )

    def _entry(
        self,
        certificate: bytes,
        payload: bytes,
        signature: bytes,
        signed_at: datetime,
        deviations: Deviations,
    ) -> dict[str, Any]:
        """Return an entry of the first log: proof, signed checkpoint and promise."""
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
        digest = {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": digest,
                "payloadHash": digest,
                "signatures": [{"signature": _b64(signature), "verifier": _b64(pem)}],
            }
            | dict(deviations.log_body),
        }
        entry = {
            **self._proven(self._log, "dsse", "0.0.1", body),
            "integratedTime": str(int(signed_at.timestamp())),
        }
        return {**entry, "inclusionPromise": {"signedEntryTimestamp": self.promise(entry)}}

    def _second_entry(
        self, certificate: bytes, signed: bytes, signature: bytes, deviations: Deviations
    ) -> dict[str, Any]:
        """Return an entry of the second log: proof and signed checkpoint."""
        body = {
            "apiVersion": "0.0.2",
            "kind": "hashedrekord",
            "spec": {
                "hashedRekordV002": {
                    "data": {
                        "algorithm": "SHA2_256",
                        "digest": _b64(hashlib.sha256(signed).digest()),
                    },
                    "signature": {
                        "content": _b64(signature),
                        "verifier": {
                            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                            "x509Certificate": {"rawBytes": _b64(certificate)},
                        },
                    },
                }
                | dict(deviations.log_body)
            },
        }
        return self._proven(self._second_log, "hashedrekord", "0.0.2", body)

    def _proven(self, log: Key, kind: str, version: str, body: object) -> dict[str, Any]:
        """Return an entry of a log with four others, its proof and checkpoint."""
        data = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        leaves = [b"one", b"two", b"three", data, b"five"]
        root, path = _merkle([hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves], 3)
        note = f"{SIGNED_NOTE}\n{len(leaves)}\n{_b64(root)}\n"
        signature = _b64(_key_id(log)[:4] + _signed(log, note.encode()))
        return {
            "logIndex": "3",
            "logId": {"keyId": _b64(_key_id(log))},
            "kindVersion": {"kind": kind, "version": version},
            "inclusionProof": {
                "logIndex": "3",
                "rootHash": _b64(root),
                "treeSize": str(len(leaves)),
                "hashes": [_b64(one) for one in path],
                "checkpoint": {"envelope": f"{note}\n— {SIGNED_NOTE} {signature}\n"},
            },
            "canonicalizedBody": _b64(data),
        }


def _b64(data: bytes) -> str:
    return b64encode(data).decode()


def _ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _public_key(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_id(key: Key) -> bytes:
    return hashlib.sha256(_public_key(key)).digest()


def _signed(key: Key, data: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, PKCS1v15(), SHA256())
    return key.sign(data)


def _der(tag: int, *parts: bytes) -> bytes:
    """Return one element of DER."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def _usage(*, signs: bool) -> x509.KeyUsage:
    """Return the usage of a key that signs documents, or else certificates."""
    return x509.KeyUsage(
        digital_signature=signs,
        key_cert_sign=not signs,
        crl_sign=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _certify(
    name: str,
    key: Key,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    *,
    begins: datetime,
    ends: datetime,
    serial: int | None = None,
) -> x509.Certificate:
    """Return a certificate; a name of "" is an empty subject."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, SHA256())


def _log_instance(key: Key, details: str) -> dict[str, Any]:
    """Return a log in the form of the trusted root."""
    return {
        "baseUrl": "https://log.example",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": _b64(_public_key(key)),
            "keyDetails": details,
            "validFor": {"start": "2025-01-01T00:00:00Z"},
        },
        "logId": {"keyId": _b64(_key_id(key))},
    }


def _authority(*chain: x509.Certificate) -> dict[str, Any]:
    """Return an authority in the form of the trusted root."""
    return {
        "subject": {"organization": "example", "commonName": "authority"},
        "uri": "https://authority.example",
        "certChain": {
            "certificates": [{"rawBytes": _b64(one.public_bytes(Encoding.DER))} for one in chain]
        },
        "validFor": {"start": "2025-01-01T00:00:00Z"},
    }


def _merkle(hashes: Sequence[bytes], index: int) -> tuple[bytes, list[bytes]]:
    """Return the root of a tree of leaf hashes (RFC 6962), and the proof of one leaf."""
    if len(hashes) == 1:
        return hashes[0], []
    half = 1 << ((len(hashes) - 1).bit_length() - 1)
    left, in_left = _merkle(hashes[:half], min(index, half - 1))
    right, in_right = _merkle(hashes[half:], max(index - half, 0))
    path = [*in_left, right] if index < half else [*in_right, left]
    return hashlib.sha256(b"\1" + left + right).digest(), path
