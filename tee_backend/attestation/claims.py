"""The verifier library's claims, read strictly and compared with our own reading of the quote.

Two parsers read every quote. A quote that they read differently is refused, whichever of the two is wrong.

Source: claims version 1 of the pinned verifier library.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from capabilities.errors import InvalidJson
from capabilities.strict_json import parse_json, shaped
from encryption_network.policy import ACCEPTABLE_STATUSES

from .errors import QuoteRefused
from .quote import Quote

MAX_CLAIMS_BYTES = 64 * 1024
MAX_ADVISORIES = 256

_Whole = Annotated[int, Meta(ge=0, lt=1 << 53)]
_Octets = Annotated[list[Annotated[int, Meta(ge=0, lt=256)]], Meta(min_length=1)]
_TEE_TYPE_TDX = 0x81
_REPORT_FIELDS = {
    "tee_tcb_svn": "tee_tcb_svn",
    "mr_seam": "mr_seam",
    "mr_signer_seam": "mr_signer_seam",
    "seam_attributes": "seam_attributes",
    "td_attributes": "td_attributes",
    "xfam": "xfam",
    "mr_td": "mrtd",
    "mr_config_id": "mr_config_id",
    "mr_owner": "mr_owner",
    "mr_owner_config": "mr_owner_config",
    "rt_mr0": "rtmr0",
    "rt_mr1": "rtmr1",
    "rt_mr2": "rtmr2",
    "rt_mr3": "rtmr3",
    "report_data": "report_data",
}
_REPORT_FIELDS_15 = {"tee_tcb_svn2": "tee_tcb_svn2", "mr_service_td": "mr_service_td"}


@dataclass(frozen=True, slots=True)
class Claims:
    """What the library found.

    Attributes:
        version: of the quote.
        status: converged TCB status, in Intel's spelling.
        qe_status: status of the quoting enclave's level.
        advisories: ids that apply, distinct, sorted.
        tcb_date: date of the matched platform level, epoch seconds.
        platform: FMSPC, PCEID and PPID of the leaf.
        report: the trust domain's report, hex by the library's field names.
    """

    version: int
    status: str
    qe_status: str
    advisories: tuple[str, ...]
    tcb_date: float
    platform: tuple[bytes, bytes, bytes]
    report: dict[str, str]


class _Header(Struct):
    version: _Whole


class _Tcb(Struct):
    status: str
    advisory_ids: Annotated[list[str], Meta(max_length=MAX_ADVISORIES)]


class _Pck(Struct):
    fmspc: _Octets
    pce_id: _Octets
    ppid: _Octets


class _Platform(Struct):
    pck: _Pck
    tcb_date_tag: _Whole


class _QeLevel(Struct):
    status: str = field(name="tcbStatus")


class _Qe(Struct):
    tcb_level: _QeLevel


class _Claims(Struct):
    """The members that are compared or judged; the library states more."""

    tee_type: _Whole
    header: _Header
    tcb: _Tcb
    platform: _Platform
    qe: _Qe
    report: dict[str, dict[str, Any]]  # its shape depends on the kind of the report


def parse_claims(data: bytes) -> Claims:
    """Read the library's claims.

    Args:
        data: JSON, at most MAX_CLAIMS_BYTES; from the library, so any surprise is a fault of a version.
    Raises:
        QuoteRefused: `evidence-invalid`, a member is missing or of another type, an unknown status, not a TDX quote.
    """
    try:
        claims = shaped(parse_json(data, max_bytes=MAX_CLAIMS_BYTES), _Claims)
    except InvalidJson as exc:
        raise QuoteRefused("evidence-invalid", f"claims: {exc}") from exc
    if claims.tee_type != _TEE_TYPE_TDX:
        raise QuoteRefused("evidence-invalid", "claims are not about a TDX quote")
    pck = claims.platform.pck
    return Claims(
        version=claims.header.version,
        status=_known(claims.tcb.status),
        qe_status=_known(claims.qe.tcb_level.status),
        advisories=tuple(sorted(set(claims.tcb.advisory_ids))),
        tcb_date=float(claims.platform.tcb_date_tag),
        platform=(bytes(pck.fmspc), bytes(pck.pce_id), bytes(pck.ppid)),
        report=_report(claims.report),
    )


def check_same_reading(quote: Quote, claims: Claims) -> None:
    """Compare what the library read with what we read.

    Raises:
        QuoteRefused: `evidence-invalid`, they differ in any field that evidence is made of.
    """
    own_platform = (quote.platform.fmspc, quote.platform.pce_id, quote.platform.ppid)
    if claims.version != quote.version or claims.platform != own_platform:
        raise QuoteRefused("evidence-invalid", "two readings of one quote differ in version or platform")
    names = _REPORT_FIELDS if quote.report.tee_tcb_svn2 is None else {**_REPORT_FIELDS, **_REPORT_FIELDS_15}
    own = {theirs: getattr(quote.report, ours).hex() for theirs, ours in names.items()}
    differing = sorted(name for name in own if claims.report.get(name) != own[name])
    if differing:
        raise QuoteRefused("evidence-invalid", f"two readings of one quote differ in {', '.join(differing)}")


def _report(report: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Flatten the nested shapes: 1.5 holds 1.0 as `base`, the extended one holds 1.5."""
    if len(report) != 1:
        raise QuoteRefused("evidence-invalid", "claims hold no single report")
    (flat,) = report.values()
    while "base" in flat:
        base = flat.pop("base")
        if not isinstance(base, dict):
            raise QuoteRefused("evidence-invalid", "claims hold no object 'base'")
        flat = {**base, **flat}
    return {name: value for name, value in flat.items() if isinstance(value, str)}


def _known(status: str) -> str:
    if status not in ACCEPTABLE_STATUSES:
        raise QuoteRefused("evidence-invalid", f"unknown TCB status {status[:40]!r}")
    return status
