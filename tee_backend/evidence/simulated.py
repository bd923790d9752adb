"""A TDX platform in software: genuine formats, real signatures, a root of its own. NOTHING IS PROVEN BY IT.

Whoever has the platform's folder or seed can make every quote, for every code, on any machine; the host sees all
memory, and every key that the simulated key service gives. Use it to try things out and in tests. Never put a secret of
value behind it, and never trust its root on a node or as an owner who keeps any.

It is a source of evidence, not a mode of the verifier: its quotes take the same path as any other, and pass only where
the operator configured its root certificate. Under Intel's root they are refused.

Example:
    source = SimulatedSource.load(Path("tee"), compose="services: …")     # a folder of `sealspace backend simulate`
    backend = Backend.open(url, source, folder=Path("backend"), keys=source)

    platform = SimulatedPlatform.from_seed(entropy.token(32))
    quote = platform.mint_quote(measurements_of("backend"), report_data)
    root = parse_trust_root(platform.root_der)
    verify_quote(quote, parse_collateral(platform.collateral_json(now)), root=root, now=now)

Source: Intel TDX DCAP quote formats 4 and 5; Intel PCS API v4; Intel SGX PCK Certificate Profile.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from encryption_network.policy import Measurements
from tee_backend.attestation.certificates import parse_pem_chain, parse_platform
from tee_backend.attestation.errors import MalformedCertificate
from tee_backend.attestation.quote import INTEL_QE_VENDOR, BodyKind

from ._pki import (
    MACHINE_ROLES,
    PCE_ID,
    PCE_SVN,
    ROLES,
    SGX_COMPONENTS,
    Pki,
    derive_key,
    pem_of,
    raw_point,
    sign_raw,
)
from .errors import EvidenceSourceError
from .simulated_log import MintedLog, mint_event_log
from .source import Quoted

MIN_SEED_BYTES = 16
DEFAULT_FMSPC = b"sealsp"
"""Platform family of simulated platforms; no real family has it."""

SEPT_VE_DISABLE = 1 << 28
DEBUG = 1 << 0
CURRENT_TCB_SVN = bytes([5, 1, 4]) + bytes(13)
OLD_MODULE_TCB_SVN = bytes([2, 1, 4]) + bytes(13)
"""A module whose level is OutOfDate in the simulated TCB info."""

_LEVEL_DATE = "2025-08-13T00:00:00Z"
_OLD_MODULE_DATE = "2023-08-09T00:00:00Z"
_QE_SIGNER = hashlib.sha256(b"simulated quoting enclave signer").digest()
_QE_ATTRIBUTES = bytes.fromhex("1500000000000000e700000000000000")
_QE_AUTH = bytes(range(32))
_IMAGE = "sealspace example image"
_ROOT_FILE = "root-ca.pem"
_LEAF_CHAIN_FILE = "pck-chain.pem"


class PlatformFolderError(EvidenceSourceError):
    """A folder does not contain a simulated platform, or contains a broken one."""

    code = "platform_folder"
    hint = "make one in a new folder: sealspace backend simulate FOLDER"


def measurements_of(code: str) -> Measurements:
    """Return the measurements that a program of this name is simulated to have; equal names, equal measurements."""
    mrtd, rtmr0, rtmr1, rtmr2, rtmr3 = (
        hashlib.sha384(f"{register}\x00{code}".encode()).digest() for register in ("mrtd", "0", "1", "2", "3")
    )
    return Measurements(mrtd=mrtd, rtmr0=rtmr0, rtmr1=rtmr1, rtmr2=rtmr2, rtmr3=rtmr3)


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainOptions:
    """How a trust domain deviates from an ordinary one.

    Attributes:
        kind: shape of the report: TD 1.0 in a quote of version 4, or TD 1.5 and its extension in version 5.
        td_attributes: u64; add DEBUG for a debug domain.
        xfam: u64.
        mr_config_id: 48 bytes.
        tee_tcb_svn: 16 bytes, module at launch.
        tee_tcb_svn2: 16 bytes, module now (TD 1.5).
        mr_service_td: 48 bytes (TD 1.5).
    """

    kind: BodyKind = BodyKind.TD10
    td_attributes: int = SEPT_VE_DISABLE
    xfam: int = 0x602E7
    mr_config_id: bytes = bytes(48)
    tee_tcb_svn: bytes = CURRENT_TCB_SVN
    tee_tcb_svn2: bytes = CURRENT_TCB_SVN
    mr_service_td: bytes = bytes(48)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralOptions:
    """How the published collateral deviates from that of a platform in order.

    Attributes:
        tcb_status: status of the platform's level, in Intel's spelling.
        qe_status: status of the quoting enclave's level.
        advisories: advisory ids at the platform's level.
        evaluation_number: of TCB info and QE identity.
        issued_before_s: how long before `now` every part was issued; negative: in the future.
        valid_for_s: how long every part is valid from its issue.
        pce_id: PCEID that the TCB info is for, 2 bytes.
        revoked: roles whose certificates are revoked: "pck", "platform-ca", "tcb-signing".
        indented: the signed texts are written with line breaks.
    """

    tcb_status: str = "UpToDate"
    qe_status: str = "UpToDate"
    advisories: Sequence[str] = ()
    evaluation_number: int = 20
    issued_before_s: int = 3600
    valid_for_s: int = 30 * 24 * 3600
    pce_id: bytes = PCE_ID
    revoked: Sequence[str] = ()
    indented: bool = False


class SimulatedPlatform:
    """One machine with its certificate authorities."""

    def __init__(self, pki: Pki) -> None:
        self._pki = pki
        self._root = pki.root()
        self._chain = (pki.pck_leaf(), pki.platform_ca(), self._root)

    @classmethod
    def from_seed(cls, seed: bytes, *, fmspc: bytes = DEFAULT_FMSPC) -> "SimulatedPlatform":
        """Make the platform that belongs to a seed; the same seed gives the same root and the same quotes.

        Args:
            seed: at least MIN_SEED_BYTES; any holder of it can mint quotes under this root.
            fmspc: platform family, 6 bytes.
        Raises:
            ValueError: sizes out of range (a mistake of the calling code).
        """
        if len(seed) < MIN_SEED_BYTES or len(fmspc) != len(DEFAULT_FMSPC):
            raise ValueError("a platform needs a seed of at least 16 bytes and an FMSPC of 6")
        return cls(Pki(keys={role: derive_key(seed, role) for role in ROLES}, fmspc=fmspc, home_fmspc=fmspc))

    def another_machine(self, seed: bytes, *, fmspc: bytes | None = None) -> "SimulatedPlatform":
        """Return another machine under the same root and the same authorities, with keys and a PPID of its own.

        Args:
            seed: at least MIN_SEED_BYTES.
            fmspc: platform family, 6 bytes; None: this machine's. Machines of one family share their collateral.
        Raises:
            ValueError: sizes out of range (a mistake of the calling code).
        """
        fmspc = self.fmspc if fmspc is None else fmspc
        if len(seed) < MIN_SEED_BYTES or len(fmspc) != len(DEFAULT_FMSPC):
            raise ValueError("a machine needs a seed of at least 16 bytes and an FMSPC of 6")
        own = {role: derive_key(seed, f"another machine's {role}") for role in MACHINE_ROLES}
        return SimulatedPlatform(Pki(keys=self._pki.keys | own, fmspc=fmspc, home_fmspc=self._pki.home_fmspc))

    @classmethod
    def load(cls, folder: Path) -> "SimulatedPlatform":
        """Load what `save` wrote.

        Raises:
            PlatformFolderError: a file is missing, is no P-256 key in PEM, or the certificates are of other keys.
        """
        try:
            keys = {role: _read_key(folder / f"{role}.key") for role in ROLES}
            chain_pem = (folder / _LEAF_CHAIN_FILE).read_bytes()
            leaf, authority, _ = parse_pem_chain(chain_pem, most=3)
            fmspc = parse_platform(leaf, authority).fmspc
            platform = cls(Pki(keys=keys, fmspc=fmspc, home_fmspc=fmspc))
        except (OSError, ValueError, TypeError, MalformedCertificate) as exc:
            raise PlatformFolderError(f"{folder} lacks a key or certificate of a simulated platform") from exc
        if platform.pck_chain_pem.encode() != chain_pem:
            raise PlatformFolderError("keys and certificates do not belong together")
        return platform

    def save(self, folder: Path) -> None:
        """Write keys (mode 0600), root and chain as PEM into a folder, which is made when absent.

        Raises:
            ValueError: a machine of another family than the first under its root; it is kept as its seeds.
        """
        if self.fmspc != self._pki.home_fmspc:
            raise ValueError("a machine of another family is kept as its seeds")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for role in ROLES:
            path = folder / f"{role}.key"
            path.touch(mode=0o600)
            path.write_bytes(_pem_of_key(self._pki.keys[role]))
        (folder / _ROOT_FILE).write_text(self.root_pem)
        (folder / _LEAF_CHAIN_FILE).write_text(self.pck_chain_pem)

    @property
    def root_der(self) -> bytes:
        """The root certificate, DER: what an operator has to trust by name."""
        return self._root.public_bytes(serialization.Encoding.DER)

    @property
    def root_pem(self) -> str:
        """The root certificate, PEM."""
        return pem_of(self._root)

    @property
    def pck_chain_pem(self) -> str:
        """Leaf, authority and root, PEM, as every quote carries them."""
        return pem_of(*self._chain)

    @property
    def key_secret(self) -> bytes:
        """What the simulated key service derives its keys from, 32 bytes."""
        secret = self._pki.keys["root"].private_numbers().private_value
        return hashlib.sha256(b"sealspace/simulated-key-service/1\x00" + secret.to_bytes(32, "big")).digest()

    @property
    def fmspc(self) -> bytes:
        """Platform family, 6 bytes."""
        return self._pki.fmspc

    def mint_quote(
        self, measurements: Measurements, report_data: bytes, *, options: DomainOptions | None = None
    ) -> bytes:
        """Make a quote of a trust domain on this platform.

        Args:
            measurements: of the domain's code; without RTMR3 that register is zero.
            report_data: 64 bytes.
            options: deviations from an ordinary domain.
        Returns:
            A quote of version 4 or 5.
        Raises:
            ValueError: a field of another size (a mistake of the calling code).
        """
        options = options or DomainOptions()
        body = _body(measurements, report_data, options)
        signed = _header(options.kind) + body
        attestation_key = self._pki.keys["attestation"]
        point = raw_point(attestation_key)
        qe_report = _qe_report(hashlib.sha256(point + _QE_AUTH).digest())
        inner = _sized(5, self.pck_chain_pem.encode())
        outer = (
            qe_report
            + sign_raw(self._pki.keys["pck"], qe_report)
            + len(_QE_AUTH).to_bytes(2, "little")
            + _QE_AUTH
            + inner
        )
        auth = sign_raw(attestation_key, signed) + point + _sized(6, outer)
        return signed + len(auth).to_bytes(4, "little") + auth

    def collateral_json(self, now: float, *, options: CollateralOptions | None = None) -> bytes:
        """Publish collateral for this platform.

        Args:
            now: epoch seconds; whole seconds are used.
            options: deviations from a platform in order.
        Returns:
            A QuoteCollateralV3 JSON document.
        """
        options = options or CollateralOptions()
        issued_at = int(now) - options.issued_before_s
        this_update = datetime.fromtimestamp(issued_at, UTC)
        next_update = datetime.fromtimestamp(issued_at + options.valid_for_s, UTC)
        window = {"issueDate": _time_text(this_update), "nextUpdate": _time_text(next_update)}
        tcb_info = _signed_text(self._tcb_info(window, options), indented=options.indented)
        qe_identity = _signed_text(_qe_identity(window, options), indented=options.indented)
        signer = self._pki.keys["tcb-signing"]
        signer_chain = pem_of(self._pki.tcb_signer(), self._root)
        crls = {
            issuer: self._pki.crl(
                issuer,
                this_update=this_update,
                next_update=next_update,
                revoked=[role for role in options.revoked if (role == "pck") is (issuer == "platform-ca")],
            )
            for issuer in ("root", "platform-ca")
        }
        document = {
            "pck_crl_issuer_chain": pem_of(*self._chain[1:]),
            "root_ca_crl": crls["root"].hex(),
            "pck_crl": crls["platform-ca"].hex(),
            "tcb_info_issuer_chain": signer_chain,
            "tcb_info": tcb_info,
            "tcb_info_signature": sign_raw(signer, tcb_info.encode()).hex(),
            "qe_identity_issuer_chain": signer_chain,
            "qe_identity": qe_identity,
            "qe_identity_signature": sign_raw(signer, qe_identity.encode()).hex(),
        }
        return json.dumps(document).encode()

    def evaluation_numbers_json(
        self, now: float, recovery_events: Mapping[int, float], *, valid_for_s: int = 30 * 24 * 3600
    ) -> tuple[bytes, str]:
        """Publish the list of evaluation numbers.

        Args:
            now: epoch seconds; when the list is issued.
            recovery_events: for each number the time of its recovery event, epoch seconds.
            valid_for_s: how long the list is valid.
        Returns:
            The body of the service's answer, and the issuer chain, PEM.
        """
        listed = {
            "id": "TDX",
            "version": 1,
            "issueDate": _time_text(datetime.fromtimestamp(int(now), UTC)),
            "nextUpdate": _time_text(datetime.fromtimestamp(int(now) + valid_for_s, UTC)),
            "tcbEvalNumbers": [
                {
                    "tcbEvaluationDataNumber": number,
                    "tcbRecoveryEventDate": _time_text(datetime.fromtimestamp(event, UTC)),
                    "tcbDate": _time_text(datetime.fromtimestamp(event + 86_400, UTC)),
                }
                for number, event in recovery_events.items()
            ],
        }
        text = _signed_text(listed, indented=False)
        signature = sign_raw(self._pki.keys["tcb-signing"], text.encode()).hex()
        body = f'{{"tcbEvaluationDataNumbers":{text},"signature":"{signature}"}}'
        return body.encode(), pem_of(self._pki.tcb_signer(), self._root)

    def _tcb_info(self, window: dict[str, str], options: CollateralOptions) -> dict[str, object]:
        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        # Components 0 and 1 of a level are judged by the module's identity instead.
        tdx_components = (5, 0, 4, *(0 for _ in range(13)))
        level: dict[str, object] = {
            "tcb": {
                "sgxtcbcomponents": [{"svn": svn} for svn in SGX_COMPONENTS],
                "pcesvn": PCE_SVN,
                "tdxtcbcomponents": [{"svn": svn} for svn in tdx_components],
            },
            "tcbDate": _LEVEL_DATE,
            "tcbStatus": options.tcb_status,
        }
        if options.advisories:
            level["advisoryIDs"] = list(options.advisories)
        return {
            "id": "TDX",
            "version": 3,
            **window,
            "fmspc": self.fmspc.hex().upper(),
            "pceId": options.pce_id.hex().upper(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": options.evaluation_number,
            "tdxModule": module,
            "tdxModuleIdentities": [
                {
                    "id": "TDX_01",
                    **module,
                    "tcbLevels": [
                        {"tcb": {"isvsvn": 5}, "tcbDate": _LEVEL_DATE, "tcbStatus": "UpToDate"},
                        {"tcb": {"isvsvn": 2}, "tcbDate": _OLD_MODULE_DATE, "tcbStatus": "OutOfDate"},
                    ],
                }
            ],
            "tcbLevels": [level],
        }


@dataclass(frozen=True, slots=True)
class SimulatedSource:
    """A simulated trust domain: a source of quotes and of keys. NOTHING IS PROVEN BY IT, see the module.

    Attributes:
        platform: makes the quotes.
        measurements: of the code that is said to run; RTMR3 comes from the log where there is one.
        minted: the event log; None: the platform keeps none.
    """

    platform: SimulatedPlatform
    measurements: Measurements
    minted: MintedLog | None = None

    @classmethod
    def load(cls, folder: Path, *, compose: str) -> "SimulatedSource":
        """Return a simulated domain on a platform that was saved, in which a compose file was started.

        Raises:
            PlatformFolderError: as `SimulatedPlatform.load`.
        """
        minted = mint_event_log(hashlib.sha256(compose.encode()).digest())
        return cls(SimulatedPlatform.load(folder), measurements_of(_IMAGE), minted)

    def quote(self, report_data: bytes) -> bytes:
        """Mint a quote over 64 bytes of report data."""
        return self.quote_with_log(report_data).quote

    def quote_with_log(self, report_data: bytes) -> Quoted:
        """Mint a quote over 64 bytes of report data, with the log."""
        quote = self.platform.mint_quote(self._measured(), report_data)
        return Quoted(quote, None if self.minted is None else self.minted.log)

    def key(self, path: str) -> bytes:
        """Return a key for a path, as a key service would: the same for one platform and code, whatever the process."""
        measured = self._measured()
        registers = (measured.mrtd, measured.rtmr0, measured.rtmr1, measured.rtmr2, measured.rtmr3 or bytes(48))
        return hmac.digest(self.platform.key_secret, b"".join(registers) + path.encode(), hashlib.sha256)

    def _measured(self) -> Measurements:
        return self.measurements if self.minted is None else self.minted.run_on(self.measurements)


def _header(kind: BodyKind) -> bytes:
    version = 4 if kind is BodyKind.TD10 else 5
    header = version.to_bytes(2, "little") + bytes.fromhex("02008100000000000000") + INTEL_QE_VENDOR + bytes(20)
    if version == 4:
        return header
    body_type = 3 if kind is BodyKind.TD15 else 4
    return header + body_type.to_bytes(2, "little") + kind.value.to_bytes(4, "little")


def _body(measurements: Measurements, report_data: bytes, options: DomainOptions) -> bytes:
    fields = [
        options.tee_tcb_svn,
        hashlib.sha384(b"simulated TDX module").digest(),
        bytes(48),
        bytes(8),
        options.td_attributes.to_bytes(8, "little"),
        options.xfam.to_bytes(8, "little"),
        measurements.mrtd,
        options.mr_config_id,
        bytes(96),
        measurements.rtmr0,
        measurements.rtmr1,
        measurements.rtmr2,
        measurements.rtmr3 or bytes(48),
        report_data,
    ]
    if options.kind is not BodyKind.TD10:
        fields += [options.tee_tcb_svn2, options.mr_service_td]
    if options.kind is BodyKind.TD15_EXTENDED:
        fields.append(bytes(BodyKind.TD15_EXTENDED.value - BodyKind.TD15.value))
    body = b"".join(fields)
    if len(report_data) != 64 or len(body) != options.kind.value:
        raise ValueError("a field of the report has another size than its place")
    return body


def _qe_report(bound: bytes) -> bytes:
    """Return the quoting enclave's report that binds the attestation key."""
    report = bytearray(384)
    report[48:64] = _QE_ATTRIBUTES
    report[64:96] = hashlib.sha256(b"simulated quoting enclave").digest()
    report[128:160] = _QE_SIGNER
    report[256:258] = (2).to_bytes(2, "little")
    report[258:260] = (8).to_bytes(2, "little")
    report[320:352] = bound
    return bytes(report)


def _qe_identity(window: dict[str, str], options: CollateralOptions) -> dict[str, object]:
    return {
        "id": "TD_QE",
        "version": 2,
        **window,
        "tcbEvaluationDataNumber": options.evaluation_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": _QE_SIGNER.hex().upper(),
        "isvprodid": 2,
        "tcbLevels": [{"tcb": {"isvsvn": 4}, "tcbDate": _LEVEL_DATE, "tcbStatus": options.qe_status}],
    }


def _sized(kind: int, content: bytes) -> bytes:
    """Return certification data: type, size, content."""
    return kind.to_bytes(2, "little") + len(content).to_bytes(4, "little") + content


def _signed_text(signed: dict[str, object], *, indented: bool) -> str:
    return json.dumps(signed, indent=1) if indented else json.dumps(signed, separators=(",", ":"))


def _time_text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return key


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
