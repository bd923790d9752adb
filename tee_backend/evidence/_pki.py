"""Keys and certificates of a simulated platform.

Keys are derived from a seed. Everything is a function of the keys: serial numbers are hashes,
validity periods are fixed, and signatures use RFC 6979. So a platform that is loaded from its keys
has the same certificates, byte for byte.
"""

import hashlib
from dataclasses import field
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from capabilities.frozen import frozen

NAME_PREFIX = "sealspace simulated SGX "


class _Role(NamedTuple):
    """What a certificate of the simulated platform is for.

    Attributes:
        name: the end of its common name.
        issuer: the role whose certificate signs it.
        path_length: how many authorities may follow below it; None: it is not an authority.
    """

    name: str
    issuer: str
    path_length: int | None


ROLES = {
    "root": _Role("Root CA", issuer="root", path_length=1),
    "platform-ca": _Role("PCK Platform CA", issuer="root", path_length=0),
    "tcb-signing": _Role("TCB Signing", issuer="root", path_length=None),
    "pck": _Role("PCK Certificate", issuer="platform-ca", path_length=None),
}
KEYS = (*ROLES, "attestation")
SGX_COMPONENTS = (4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0)
PCE_SVN = 11
PCE_ID = bytes(2)

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
_NOT_AFTER = datetime(2049, 12, 31, tzinfo=UTC)
_SGX_OID = bytes.fromhex("2a864886f84d010d01")
# Tags of DER.
_BOOLEAN = 0x01
_INTEGER = 0x02
_OCTETS = 0x04
_OBJECT_ID = 0x06
_ENUMERATED = 0x0A
_SEQUENCE = 0x30


def derive_key(seed: bytes, role: str) -> ec.EllipticCurvePrivateKey:
    """Derive a P-256 key of the simulated platform from a seed.

    The modular bias is below 2^-250.
    """
    wide = hashlib.sha512(
        b"sealspace/simulated-platform/1\x00" + role.encode() + b"\x00" + seed
    ).digest()
    return ec.derive_private_key(int.from_bytes(wide, "big") % (_ORDER - 1) + 1, ec.SECP256R1())


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Sign a message with deterministic ECDSA.

    The curve is P-256 and the hash SHA-256. The signature has 64 bytes (r, then s).
    """
    r, s = decode_dss_signature(
        key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    )
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def raw_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a public key as 64 bytes (x, then y)."""
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )[1:]


def pem_of(*certificates: x509.Certificate) -> str:
    """Return certificates as one PEM string."""
    return "".join(c.public_bytes(serialization.Encoding.PEM).decode() for c in certificates)


@frozen
class Pki:
    """The keys and certificates of one simulated platform."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(repr=False)
    fmspc: bytes

    @property
    def ppid(self) -> bytes:
        """The 16-byte identifier of the platform (PPID).

        The identifier is derived from the platform's own key.
        """
        return hashlib.sha256(b"ppid" + raw_point(self.keys["pck"])).digest()[:16]

    def certificate(self, role: str) -> x509.Certificate:
        """Return the certificate of a role, such as `root` or `pck`."""
        name, issuer, path_length = ROLES[role]
        key, issuer_key = self.keys[role], self.keys[issuer]
        is_authority = path_length is not None
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(ROLES[issuer].name))
            .public_key(key.public_key())
            .serial_number(self.serial(role))
            .not_valid_before(_NOT_BEFORE)
            .not_valid_after(_NOT_AFTER)
            .add_extension(
                x509.BasicConstraints(ca=is_authority, path_length=path_length), critical=True
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_authority,
                    content_commitment=not is_authority,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=is_authority,
                    crl_sign=is_authority,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
                critical=False,
            )
        )
        if role == "pck":
            builder = builder.add_extension(
                x509.UnrecognizedExtension(
                    x509.ObjectIdentifier("1.2.840.113741.1.13.1"), self._sgx_extension()
                ),
                critical=False,
            )
        return builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True)

    def crl(self, issuer: str, *, this_update: datetime, next_update: datetime) -> bytes:
        """Return an empty, signed revocation list in DER."""
        key = self.keys[issuer]
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(ROLES[issuer].name))
            .last_update(this_update)
            .next_update(next_update)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
            )
        )
        signed = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
        return signed.public_bytes(serialization.Encoding.DER)

    def serial(self, role: str) -> int:
        """Return the serial number of a certificate of the simulated platform."""
        digest = hashlib.sha256(role.encode() + self.fmspc + raw_point(self.keys[role])).digest()
        return int.from_bytes(digest[:16], "big") | 1

    def _sgx_extension(self) -> bytes:
        """Return the platform extension of the leaf certificate in DER."""
        tcb = []
        for number, svn in enumerate((*SGX_COMPONENTS, PCE_SVN), start=1):
            tcb.append(_encode_entry(2, number, _encode_der(_INTEGER, bytes([svn]))))
        tcb.append(_encode_entry(2, 18, _encode_der(_OCTETS, bytes(SGX_COMPONENTS))))
        instance_id = hashlib.sha256(b"instance" + self.ppid).digest()[:16]
        flags = [_encode_entry(7, number, _encode_der(_BOOLEAN, b"\xff")) for number in (1, 2, 3)]
        return _encode_der(
            _SEQUENCE,
            _encode_entry(1, None, _encode_der(_OCTETS, self.ppid)),
            _encode_entry(2, None, _encode_der(_SEQUENCE, *tcb)),
            _encode_entry(3, None, _encode_der(_OCTETS, PCE_ID)),
            _encode_entry(4, None, _encode_der(_OCTETS, self.fmspc)),
            _encode_entry(5, None, _encode_der(_ENUMERATED, b"\x01")),
            _encode_entry(6, None, _encode_der(_OCTETS, instance_id)),
            _encode_entry(7, None, _encode_der(_SEQUENCE, *flags)),
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, NAME_PREFIX + common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "not a production platform"),
        ]
    )


def _encode_entry(number: int, inner: int | None, value: bytes) -> bytes:
    """Encode one entry of a certificate's SGX extension.

    The entry is a DER sequence of OID and value.
    """
    oid = _SGX_OID + bytes([number]) + (b"" if inner is None else bytes([inner]))
    return _encode_der(_SEQUENCE, _encode_der(_OBJECT_ID, oid), value)


def _encode_der(tag: int, *contents: bytes) -> bytes:
    """Encode the joined contents with a DER tag and their length."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        head = [size]
    elif size < 0x100:
        head = [0x81, size]
    else:
        head = [0x82, *divmod(size, 256)]
    return bytes([tag, *head]) + content
