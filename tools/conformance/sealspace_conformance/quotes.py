"""Quotes of a test authority, which the kit builds and signs itself (attestation §4).

The authority is a folder with three files: `attestation.key` and `pck.key`, private keys on P-256
in PEM, and `pck-chain.pem`, the certificates from that of `pck.key` up to the root. A node that
trusts the root, and has the authority's collateral, accepts quotes that these keys sign.
"""

import hashlib
import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

Code = Mapping[str, str]
"""The registers of some code by their names in a policy, in hexadecimal digits."""

DEBUG = 1 << 0
MIGRATABLE = 1 << 29
PERFORMANCE_COUNTERS = 1 << 63
"""Bits of a trust domain's attributes. Of these, policies may allow the last one alone (AT14)."""

_HEAD_BYTES = 48
_SIGNED_BYTES = _HEAD_BYTES + 584  # head and report, which the attestation key signs
_ENCLAVE_BYTES = 384
_ATTRIBUTES = slice(_HEAD_BYTES + 120, _HEAD_BYTES + 128)
_REGISTERS = {
    "mrtd": _HEAD_BYTES + 136,
    "rtmr0": _HEAD_BYTES + 328,
    "rtmr1": _HEAD_BYTES + 376,
    "rtmr2": _HEAD_BYTES + 424,
    "rtmr3": _HEAD_BYTES + 472,
}
_REPORT_DATA = slice(_HEAD_BYTES + 520, _SIGNED_BYTES)
_ENCLAVE_DATA = slice(320, 352)
# The recorded quote has the head, the report and the enclave's report of a sound platform.
_ENCLAVE = slice(_SIGNED_BYTES + 4 + 64 + 64 + 6, _SIGNED_BYTES + 4 + 64 + 64 + 6 + _ENCLAVE_BYTES)
_CHAIN = 5
_ENCLAVE_AND_CHAIN = 6
_AUTHENTICATION = bytes(range(32))
_MOST_FILE_BYTES = 64 * 1024


class NoAuthority(Exception):
    """A folder has no usable test authority; the text says why."""


def recorded_quote() -> bytes:
    """Return a quote of a simulated platform, whose report data are for no request."""
    document = json.loads(files("sealspace_conformance").joinpath("quote.json").read_bytes())
    return b64decode(document["quote"])


def code_of(name: str) -> Code:
    """Return the registers of code that has this name. Other names have other registers."""
    return {
        register: hashlib.sha384(f"{register} of {name}".encode()).hexdigest()
        for register in _REGISTERS
    }


def with_registers(quote: bytes, code: Code) -> bytes:
    """Return a quote or the beginning of one with other registers. Signatures stay as they are."""
    changed = bytearray(quote)
    for register, offset in _REGISTERS.items():
        changed[offset : offset + 48] = bytes.fromhex(code[register])
    return bytes(changed)


def new_attestation_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key that no authority certified."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Authority:
    """A test authority.

    Attributes:
        attestation: the key that signs reports of trust domains.
        enclave: the certified key that signs the report of the quoting enclave.
        chain: certificates from that of `enclave` up to the root, in PEM.
    """

    attestation: ec.EllipticCurvePrivateKey
    enclave: ec.EllipticCurvePrivateKey
    chain: bytes

    def quote(
        self,
        code: Code,
        report_data: bytes,
        *,
        attributes: int = 0,
        signer: ec.EllipticCurvePrivateKey | None = None,
        enclave_signer: ec.EllipticCurvePrivateKey | None = None,
    ) -> bytes:
        """Return a signed quote.

        Args:
            code: the registers that the quote states.
            report_data: 64 bytes.
            attributes: bits of the trust domain's attributes that are set beside the usual ones.
            signer: the key that signs the report, and that the quote names. The enclave's report
                names `attestation` nevertheless.
            enclave_signer: the key that signs the enclave's report.
        """
        sound = recorded_quote()
        signed = bytearray(with_registers(sound[:_SIGNED_BYTES], code))
        signed[_REPORT_DATA] = report_data
        usual = int.from_bytes(signed[_ATTRIBUTES], "little")
        signed[_ATTRIBUTES] = (usual | attributes).to_bytes(8, "little")
        report = bytearray(sound[_ENCLAVE])
        report[_ENCLAVE_DATA] = hashlib.sha256(_point(self.attestation) + _AUTHENTICATION).digest()
        certified = (
            bytes(report)
            + _signature(enclave_signer or self.enclave, bytes(report))
            + len(_AUTHENTICATION).to_bytes(2, "little")
            + _AUTHENTICATION
            + _part(_CHAIN, self.chain)
        )
        attesting = signer or self.attestation
        rest = (
            _signature(attesting, bytes(signed))
            + _point(attesting)
            + _part(_ENCLAVE_AND_CHAIN, certified)
        )
        return bytes(signed) + len(rest).to_bytes(4, "little") + rest


def read_authority(folder: Path) -> Authority:
    """Read a test authority from its folder.

    Raises:
        NoAuthority: a file is missing, too large, or not what its name says.
    """
    return Authority(
        attestation=_key(folder / "attestation.key"),
        enclave=_key(folder / "pck.key"),
        chain=_content(folder / "pck-chain.pem"),
    )


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(_content(file), password=None)
    except (ValueError, TypeError):
        raise NoAuthority(f"{file} has no private key in PEM without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise NoAuthority(f"the key in {file} is not on P-256")
    return key


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise NoAuthority(f"cannot read {file}: {error.strerror}") from None
    if len(content) > _MOST_FILE_BYTES:
        raise NoAuthority(f"{file} has more than {_MOST_FILE_BYTES} bytes")
    return content


def _signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return r and s of an ECDSA signature with SHA-256, 32 bytes each."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return x and y of the public key, 32 bytes each."""
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def _part(kind: int, content: bytes) -> bytes:
    """Return certification data: type, length and content."""
    return kind.to_bytes(2, "little") + len(content).to_bytes(4, "little") + content
