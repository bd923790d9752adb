"""A simulated platform whose quotes and collateral deviate from normal ones as a test specifies.

quote = platform.mint_quote(measurements_of("backend"), report_data,
options=DomainOptions(td_attributes=DEBUG))
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from encryption_network.policy import Measurements
from tee_backend.attestation.certificates import SIMULATED_FMSPC
from tee_backend.attestation.collateral import Collateral
from tee_backend.attestation.quote import INTEL_QE_VENDOR, BodyKind
from tee_backend.evidence import simulated
from tee_backend.evidence._pki import PCE_ID, Pki, derive_key, pem_of, sign_raw
from tee_backend.evidence.simulated import (
    CURRENT_TCB_SVN,
    EVALUATION_NUMBER,
    ISSUED_BEFORE_S,
    MIN_SEED_BYTES,
    SEPT_VE_DISABLE,
    VALID_FOR_S,
    qe_identity_document,
    time_text,
)

DEBUG = 1 << 0
OLD_MODULE_TCB_SVN = bytes([2, 1, 4]) + bytes(13)
"""A module whose level is OutOfDate in the simulated TCB info."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainOptions:
    """The deviations of a trust domain from an ordinary one.

    Attributes:
        kind: shape of the report: TD 1.0 in a quote of version 4, or TD 1.5 and its extension in
            version 5.
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
    """The deviations of published collateral from that of a normal platform.

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
    evaluation_number: int = EVALUATION_NUMBER
    issued_before_s: int = ISSUED_BEFORE_S
    valid_for_s: int = VALID_FOR_S
    pce_id: bytes = PCE_ID
    revoked: Sequence[str] = ()
    indented: bool = False


MACHINE_ROLES = ("pck", "attestation")
"""Roles whose keys each machine has for itself; the others are shared by all machines under one
root."""


@dataclass(frozen=True, slots=True)
class _FamilyPki(Pki):
    """The certificates of a machine of another family under the same root."""

    home_fmspc: bytes

    def serial(self, role: str) -> int:
        return Pki(self.keys, self.fmspc if role in MACHINE_ROLES else self.home_fmspc).serial(role)


def _with_revoked(pki: Pki, crl: bytes, issuer: str, revoked: Sequence[str]) -> bytes:
    """Return a revocation list with the certificates of some roles."""
    loaded = x509.load_der_x509_crl(crl)
    builder = x509.CertificateRevocationListBuilder(
        loaded.issuer, loaded.last_update_utc, loaded.next_update_utc, list(loaded.extensions)
    )
    for role in revoked:
        entry = x509.RevokedCertificateBuilder(pki.serial(role), loaded.last_update_utc)
        builder = builder.add_revoked_certificate(entry.build())
    signed = builder.sign(pki.keys[issuer], hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(Encoding.DER)


class SimulatedPlatform(simulated.SimulatedPlatform):
    """A machine with its certificate authorities, which produces any quote or collateral."""

    def another_machine(self, seed: bytes, *, fmspc: bytes | None = None) -> Self:
        """Return another machine under the same root and the same authorities, with keys and a PPID
        of its own.

        Args:
            seed: at least MIN_SEED_BYTES.
            fmspc: platform family, 6 bytes; None: this machine's. Machines of one family share
                their collateral.
        Raises:
            ValueError: sizes out of range (a mistake of the calling code).
        """
        fmspc = self.fmspc if fmspc is None else fmspc
        if len(seed) < MIN_SEED_BYTES or len(fmspc) != len(SIMULATED_FMSPC):
            raise ValueError("a machine needs a seed of at least 16 bytes and an FMSPC of 6")
        own = {role: derive_key(seed, f"another machine's {role}") for role in MACHINE_ROLES}
        home_fmspc = getattr(self._pki, "home_fmspc", self.fmspc)
        return type(self)(_FamilyPki(keys=self._pki.keys | own, fmspc=fmspc, home_fmspc=home_fmspc))

    def mint_quote(
        self,
        measurements: Measurements,
        report_data: bytes,
        *,
        options: DomainOptions | None = None,
    ) -> bytes:
        """Make a quote of version 4 or 5; `options` are deviations from an ordinary domain."""
        if options is None:
            return super().mint_quote(measurements, report_data)
        return self.signed_quote(_header(options.kind) + _body(measurements, report_data, options))

    def collateral_json(self, now: float, *, options: CollateralOptions | None = None) -> bytes:
        """Publish collateral; `options` are deviations from a normal platform."""
        options = options or CollateralOptions()
        tcb_info: dict[str, Any] = self.tcb_info()
        qe_identity: dict[str, Any] = qe_identity_document()
        tcb_info |= {
            "pceId": options.pce_id.hex().upper(),
            "tcbEvaluationDataNumber": options.evaluation_number,
        }
        qe_identity["tcbEvaluationDataNumber"] = options.evaluation_number
        tcb_info["tcbLevels"][0]["tcbStatus"] = options.tcb_status
        qe_identity["tcbLevels"][0]["tcbStatus"] = options.qe_status
        if options.advisories:
            tcb_info["tcbLevels"][0]["advisoryIDs"] = list(options.advisories)
        issued_at = int(now) - options.issued_before_s
        this_update = datetime.fromtimestamp(issued_at, UTC)
        next_update = datetime.fromtimestamp(issued_at + options.valid_for_s, UTC)
        window = {"issueDate": time_text(this_update), "nextUpdate": time_text(next_update)}
        layout: dict[str, Any] = {"indent": 1} if options.indented else {"separators": (",", ":")}
        document = json.loads(super().collateral_json(now))
        for member, one in (("tcb_info", tcb_info), ("qe_identity", qe_identity)):
            text = json.dumps(
                {"id": one["id"], "version": one["version"], **window, **one}, **layout
            )
            document[member] = text
            document[f"{member}_signature"] = sign_raw(
                self._pki.keys["tcb-signing"], text.encode()
            ).hex()
        for member, issuer in (("root_ca_crl", "root"), ("pck_crl", "platform-ca")):
            revoked = [
                role for role in options.revoked if (role == "pck") is (issuer == "platform-ca")
            ]
            whole = self._pki.crl(issuer, this_update=this_update, next_update=next_update)
            document[member] = _with_revoked(self._pki, whole, issuer, revoked).hex()
        return json.dumps(document).encode()

    def evaluation_numbers_json(
        self, now: float, recovery_events: Mapping[int, float], *, valid_for_s: int = VALID_FOR_S
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
            "issueDate": time_text(datetime.fromtimestamp(int(now), UTC)),
            "nextUpdate": time_text(datetime.fromtimestamp(int(now) + valid_for_s, UTC)),
            "tcbEvalNumbers": [
                {
                    "tcbEvaluationDataNumber": number,
                    "tcbRecoveryEventDate": time_text(datetime.fromtimestamp(event, UTC)),
                    "tcbDate": time_text(datetime.fromtimestamp(event + 86_400, UTC)),
                }
                for number, event in recovery_events.items()
            ],
        }
        text = json.dumps(listed, separators=(",", ":"))
        signature = sign_raw(self._pki.keys["tcb-signing"], text.encode()).hex()
        body = f'{{"tcbEvaluationDataNumbers":{text},"signature":"{signature}"}}'
        return body.encode(), pem_of(self._pki.certificate("tcb-signing"), self._root)


def _header(kind: BodyKind) -> bytes:
    version = 4 if kind is BodyKind.TD10 else 5
    header = (
        version.to_bytes(2, "little")
        + bytes.fromhex("02008100000000000000")
        + INTEL_QE_VENDOR
        + bytes(20)
    )
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
    assert len(report_data) == 64
    assert len(body) == options.kind.value
    return body


def start_of(collateral: Collateral) -> float:
    """Return the latest start of all parts of a document, epoch seconds."""
    return max(window.starts_at for _, window in collateral.windows)
