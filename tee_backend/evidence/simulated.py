"""A simulated TDX platform for demos and tests. Its quotes prove nothing.

Its formats and signatures are genuine, but its root certificate is its own. The holder of the
platform's folder or seed can make any quote, for any code, on any machine. The host sees all memory
and every key of the simulated key service. Never protect a secret of value with it, and never trust
its root on a node or as an owner with such secrets.

It is a source of evidence, not a mode of the verifier. Its quotes are verified like any other, and
pass only where the operator configured its root certificate. Under Intel's root they are refused.

Example:
    # a folder of `sealspace backend simulate`
    source = SimulatedSource.load(Path("tee"), compose="services: …")
    backend = Backend.open(url, source, folder=Path("backend"), keys=source)

    platform = SimulatedPlatform.from_seed(entropy.token(32))
    quote = platform.mint_quote(measurements_of("backend"), report_data)
    root = parse_trust_root(platform.root_der)
    bound = bind_quote(quote, binding, event_log=None, accepted=DEFAULT_KEY_PROVIDERS)
    examine(bound, parse_collateral(platform.collateral_json(now)), root=root, now=now)

Source: Intel TDX DCAP quote formats 4 and 5; Intel PCS API v4; Intel SGX PCK Certificate Profile.
"""

import hashlib
import hmac
import json
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from capabilities.frozen import frozen
from encryption_network.policy import Measurements

from ..attestation.attestation_errors import MalformedCertificate
from ..attestation.certificates import SIMULATED_FMSPC, parse_pem_chain, parse_platform
from ..attestation.event_log import (
    RUNTIME_EVENT_TYPE,
    RUNTIME_REGISTER,
    Event,
    EventLog,
    event_digest,
    replay,
)
from ..attestation.event_log_claims import APP_ID_BYTES, KeyProvider
from ..attestation.quote import INTEL_QE_VENDOR, BodyKind
from ._pki import (
    KEYS,
    PCE_ID,
    PCE_SVN,
    SGX_COMPONENTS,
    Pki,
    derive_key,
    pem_of,
    raw_point,
    sign_raw,
)
from .evidence_errors import EvidenceSourceError
from .source import Quoted

# --- event logs -----------------------------------------------------------------------------------
# Source: the dstack guest agent's event log, version 1 and 2.

SIMULATED_KEY_PROVIDER = KeyProvider("kms", b"simulated key service")


class MintedLog(NamedTuple):
    """A simulated event log and the resulting register value.

    The register is RTMR3.
    """

    log: EventLog
    rtmr3: bytes

    def run_on(self, image: Measurements) -> Measurements:
        """Return a copy of the measurements with this event log's RTMR3 value."""
        return replace(image, rtmr3=self.rtmr3)


def mint_event_log(compose_hash: bytes) -> MintedLog:
    """Create the event log of a simulated application's start."""
    provider = {"name": SIMULATED_KEY_PROVIDER.name, "id": SIMULATED_KEY_PROVIDER.id.hex()}
    entries = {
        "system-preparing": b"",
        "app-id": compose_hash[:APP_ID_BYTES],
        "compose-hash": compose_hash,
        "instance-id": bytes(range(20)),
        "boot-mr-done": b"",
        "key-provider": json.dumps(provider, separators=(",", ":")).encode(),
        "storage-fs": b"zfs",
        "system-ready": b"",
    }
    events = tuple(
        Event(
            register=RUNTIME_REGISTER,
            event_type=RUNTIME_EVENT_TYPE,
            digest=event_digest(name, payload).hex(),
            name=name,
            payload_hex=payload.hex(),
        )
        for name, payload in entries.items()
    )
    return MintedLog(EventLog(events), replay(events))


MIN_SEED_BYTES = 16

SEPT_VE_DISABLE = 1 << 28
CURRENT_TCB_SVN = bytes([5, 1, 4]) + bytes(13)
EVALUATION_NUMBER = 20
ISSUED_BEFORE_S = 3600
VALID_FOR_S = 30 * 24 * 3600
"""Collateral is dated one hour back, and valid for 30 days from then."""

_LEVEL_DATE = "2025-08-13T00:00:00Z"
_QE_SIGNER = hashlib.sha256(b"simulated quoting enclave signer").digest()
_HEADER = bytes.fromhex("040002008100000000000000") + INTEL_QE_VENDOR + bytes(20)  # of version 4
_XFAM = 0x602E7
_QE_ATTRIBUTES = bytes.fromhex("1500000000000000e700000000000000")
_QE_AUTH = bytes(range(32))
_LEAF_CHAIN_FILE = "pck-chain.pem"


class PlatformFolderError(EvidenceSourceError):
    """The folder lacks usable files of a simulated TDX platform.

    The files are missing or damaged.
    """

    code = "platform_folder"
    hint = "make one in a new folder: sealspace backend simulate FOLDER"


def measurements_of(code: str) -> Measurements:
    """Derive simulated measurements from a program name.

    Equal names give equal measurements.
    """
    return Measurements(
        mrtd=_simulated_register("mrtd", code),
        rtmr0=_simulated_register("0", code),
        rtmr1=_simulated_register("1", code),
        rtmr2=_simulated_register("2", code),
        rtmr3=_simulated_register("3", code),
    )


def _simulated_register(register: str, code: str) -> bytes:
    """Return the simulated value of a register."""
    return hashlib.sha384(f"{register}\x00{code}".encode()).digest()


class SimulatedPlatform:
    """A simulated machine with its certificate authorities."""

    def __init__(self, pki: Pki) -> None:
        self._pki = pki
        self._root = pki.certificate("root")
        self._chain = (pki.certificate("pck"), pki.certificate("platform-ca"), self._root)

    @classmethod
    def from_seed(cls, seed: bytes, *, fmspc: bytes = SIMULATED_FMSPC) -> Self:
        """Create a simulated platform from a seed.

        Equal seeds give equal roots and quotes.
        """
        if len(seed) < MIN_SEED_BYTES or len(fmspc) != len(SIMULATED_FMSPC):
            raise ValueError("the seed must have at least 16 bytes, and the FMSPC exactly 6")
        return cls(Pki(keys={role: derive_key(seed, role) for role in KEYS}, fmspc=fmspc))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a simulated platform from a folder.

        The folder was written by `save`.
        """
        try:
            keys = {role: _read_key(folder / f"{role}.key") for role in KEYS}
            chain_pem = (folder / _LEAF_CHAIN_FILE).read_bytes()
            leaf, authority, _ = parse_pem_chain(chain_pem, most=3)
            platform = cls(Pki(keys=keys, fmspc=parse_platform(leaf, authority).fmspc))
        except (OSError, ValueError, TypeError, MalformedCertificate) as exc:
            raise PlatformFolderError(
                f"{folder} has no complete simulated platform: a key or certificate is missing"
            ) from exc
        if platform.pck_chain_pem.encode() != chain_pem:
            raise PlatformFolderError(f"the keys and certificates in {folder} do not match")
        return platform

    def save(self, folder: Path) -> None:
        """Write the platform's keys and certificates to a folder.

        All files are in PEM. Key files have mode 0600. A missing folder is created.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for role, key in self._pki.keys.items():
            path = folder / f"{role}.key"
            path.touch(mode=0o600)  # before the key is in it, so that others can never read it
            path.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        (folder / "root-ca.pem").write_text(self.root_pem)
        (folder / _LEAF_CHAIN_FILE).write_text(self.pck_chain_pem)

    @property
    def root_der(self) -> bytes:
        """The platform's root certificate in DER.

        Verifiers must trust this root to accept the platform's quotes.
        """
        return self._root.public_bytes(serialization.Encoding.DER)

    @property
    def root_pem(self) -> str:
        """The platform's root certificate in PEM."""
        return pem_of(self._root)

    @property
    def pck_chain_pem(self) -> str:
        """The certificate chain in the simulated platform's quotes, in PEM.

        The chain is ordered from leaf to root.
        """
        return pem_of(*self._chain)

    @property
    def key_secret(self) -> bytes:
        """The secret from which the simulated key service derives keys.

        The secret has 32 bytes.
        """
        secret = self._pki.keys["root"].private_numbers().private_value
        return hashlib.sha256(
            b"sealspace/simulated-key-service/1\x00" + secret.to_bytes(32, "big")
        ).digest()

    @property
    def fmspc(self) -> bytes:
        """The 6-byte identifier of the platform family (FMSPC)."""
        return self._pki.fmspc

    def mint_quote(self, measurements: Measurements, report_data: bytes) -> bytes:
        """Return a signed quote with the given measurements and report data."""
        return self.signed_quote(_HEADER + _encode_report_body(measurements, report_data))

    def signed_quote(self, signed: bytes) -> bytes:
        """Sign a header and a report, and return the complete quote.

        The header and the report are not checked.
        """
        attestation_key = self._pki.keys["attestation"]
        point = raw_point(attestation_key)
        report = bytearray(384)
        report[48:64] = _QE_ATTRIBUTES
        report[64:96] = hashlib.sha256(b"simulated quoting enclave").digest()  # MRENCLAVE
        report[128:160] = _QE_SIGNER
        report[256:258] = (2).to_bytes(2, "little")  # ISVPRODID
        report[258:260] = (8).to_bytes(2, "little")  # ISVSVN
        report[320:352] = hashlib.sha256(point + _QE_AUTH).digest()  # report data
        qe_report = bytes(report)
        outer = (
            qe_report
            + sign_raw(self._pki.keys["pck"], qe_report)
            + len(_QE_AUTH).to_bytes(2, "little")
            + _QE_AUTH
            + _encode_sized(5, self.pck_chain_pem.encode())
        )
        auth = sign_raw(attestation_key, signed) + point + _encode_sized(6, outer)
        return signed + len(auth).to_bytes(4, "little") + auth

    def collateral_json(self, now: float) -> bytes:
        """Return valid collateral for the platform as JSON.

        The collateral is valid at `now`.
        """
        this_update = datetime.fromtimestamp(int(now) - ISSUED_BEFORE_S, UTC)
        next_update = this_update + timedelta(seconds=VALID_FOR_S)
        window = {"issueDate": time_text(this_update), "nextUpdate": time_text(next_update)}
        tcb_text = json.dumps(self.tcb_info() | window, separators=(",", ":"))
        qe_text = json.dumps(qe_identity_document() | window, separators=(",", ":"))
        root_crl = self._pki.crl("root", this_update=this_update, next_update=next_update)
        pck_crl = self._pki.crl("platform-ca", this_update=this_update, next_update=next_update)
        signer = self._pki.keys["tcb-signing"]
        signer_chain = pem_of(self._pki.certificate("tcb-signing"), self._root)
        document = {
            "pck_crl_issuer_chain": pem_of(*self._chain[1:]),
            "root_ca_crl": root_crl.hex(),
            "pck_crl": pck_crl.hex(),
            "tcb_info_issuer_chain": signer_chain,
            "tcb_info": tcb_text,
            "tcb_info_signature": sign_raw(signer, tcb_text.encode()).hex(),
            "qe_identity_issuer_chain": signer_chain,
            "qe_identity": qe_text,
            "qe_identity_signature": sign_raw(signer, qe_text.encode()).hex(),
        }
        return json.dumps(document).encode()

    def tcb_info(self) -> dict[str, object]:
        """Return the TCB info of the simulated platform, without validity dates."""
        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        # Components 0 and 1 of a level are judged by the module's identity instead.
        tdx_components = (5, 0, 4, *(0 for _ in range(13)))
        level = {
            "tcb": {
                "sgxtcbcomponents": [{"svn": svn} for svn in SGX_COMPONENTS],
                "pcesvn": PCE_SVN,
                "tdxtcbcomponents": [{"svn": svn} for svn in tdx_components],
            },
            "tcbDate": _LEVEL_DATE,
            "tcbStatus": "UpToDate",
        }
        return {
            "id": "TDX",
            "version": 3,
            "fmspc": self.fmspc.hex().upper(),
            "pceId": PCE_ID.hex().upper(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": EVALUATION_NUMBER,
            "tdxModule": module,
            "tdxModuleIdentities": [
                {
                    "id": "TDX_01",
                    **module,
                    "tcbLevels": [
                        {"tcb": {"isvsvn": 5}, "tcbDate": _LEVEL_DATE, "tcbStatus": "UpToDate"},
                        {
                            "tcb": {"isvsvn": 2},
                            "tcbDate": "2023-08-09T00:00:00Z",
                            "tcbStatus": "OutOfDate",
                        },
                    ],
                }
            ],
            "tcbLevels": [level],
        }


@frozen
class SimulatedSource:
    """A simulated source of quotes and keys, for demos and tests.

    Its quotes prove nothing.
    """

    platform: SimulatedPlatform
    measurements: Measurements
    event_log: EventLog | None = None

    @classmethod
    def load(cls, folder: Path, *, compose: str) -> "SimulatedSource":
        """Create a simulated trust domain that runs the given compose file.

        The folder contains the saved simulated platform.
        """
        minted = mint_event_log(hashlib.sha256(compose.encode()).digest())
        return cls(
            platform=SimulatedPlatform.load(folder),
            measurements=minted.run_on(measurements_of("sealspace example image")),
            event_log=minted.log,
        )

    def quote(self, report_data: bytes) -> Quoted:
        """Return a simulated quote with its event log.

        The quote is over 64 bytes of report data.
        """
        return Quoted(self.platform.mint_quote(self.measurements, report_data), self.event_log)

    def key(self, path: str) -> bytes:
        """Return the key for a derivation path.

        The key depends only on the path, the platform and the code.
        """
        # A register without a value counts as zeros.
        registers = b"".join(register or bytes(48) for register in astuple(self.measurements))
        return hmac.digest(self.platform.key_secret, registers + path.encode(), hashlib.sha256)


def _encode_report_body(measurements: Measurements, report_data: bytes) -> bytes:
    """Encode the report of a trust domain (version 1.0)."""
    mrtd, *registers = astuple(measurements)
    body = b"".join(
        (
            CURRENT_TCB_SVN,
            hashlib.sha384(b"simulated TDX module").digest(),
            bytes(56),  # MRSIGNERSEAM and SEAMATTRIBUTES
            SEPT_VE_DISABLE.to_bytes(8, "little"),
            _XFAM.to_bytes(8, "little"),
            mrtd,
            bytes(144),  # MRCONFIGID, MROWNER and MROWNERCONFIG
            *(register or bytes(48) for register in registers),
            report_data,
        )
    )
    if len(report_data) != 64 or len(body) != BodyKind.TD10.value:
        raise ValueError("a field of the report has the wrong size")
    return body


def qe_identity_document() -> dict[str, object]:
    """Return the identity document of the simulated quoting enclave.

    The validity dates are not included.
    """
    return {
        "id": "TD_QE",
        "version": 2,
        "tcbEvaluationDataNumber": EVALUATION_NUMBER,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": _QE_SIGNER.hex().upper(),
        "isvprodid": 2,
        "tcbLevels": [{"tcb": {"isvsvn": 4}, "tcbDate": _LEVEL_DATE, "tcbStatus": "UpToDate"}],
    }


def _encode_sized(kind: int, content: bytes) -> bytes:
    """Encode certification data as type, size and content."""
    return kind.to_bytes(2, "little") + len(content).to_bytes(4, "little") + content


def time_text(time: datetime) -> str:
    """Format a time as in Intel's collateral documents."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return key
