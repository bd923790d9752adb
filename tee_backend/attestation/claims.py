"""The verifier library's claims, read strictly and compared with our own reading of the quote.

Two parsers read every quote. A quote that they read differently is refused, whichever of the two is wrong.

Source: claims version 1 of the pinned verifier library.
"""

from dataclasses import dataclass

from capabilities.strict_json import Json

from ._members import read_object
from .errors import EvidenceInvalid
from .quote import Quote, TdReport

KNOWN_STATUSES = frozenset(
    {
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
    }
)
"""Statuses that may leave verification. "Revoked" is not among them: no policy can accept it."""

MAX_CLAIMS_BYTES = 64 * 1024
MAX_ADVISORIES = 256

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


def parse_claims(data: bytes) -> Claims:
    """Read the library's claims.

    Args:
        data: JSON, at most MAX_CLAIMS_BYTES; from the library, so any surprise is a fault of a version.
    Raises:
        EvidenceInvalid: a member is missing or of another type, an unknown status, not a TDX quote.
    """
    claims = read_object(data, max_bytes=MAX_CLAIMS_BYTES, error=EvidenceInvalid, what="claims")
    if _whole(claims, "tee_type") != _TEE_TYPE_TDX:
        raise EvidenceInvalid("claims are not about a TDX quote")
    tcb, platform = _object(claims, "tcb"), _object(claims, "platform")
    pck = _object(platform, "pck")
    return Claims(
        version=_whole(_object(claims, "header"), "version"),
        status=_status(tcb, "status"),
        qe_status=_status(_object(_object(claims, "qe"), "tcb_level"), "tcbStatus"),
        advisories=_advisories(tcb),
        tcb_date=float(_whole(platform, "tcb_date_tag")),
        platform=(_octets(pck, "fmspc"), _octets(pck, "pce_id"), _octets(pck, "ppid")),
        report=_report(_object(claims, "report")),
    )


def check_same_reading(quote: Quote, claims: Claims) -> None:
    """Compare what the library read with what we read.

    Raises:
        EvidenceInvalid: they differ in any field that evidence is made of.
    """
    own_platform = (quote.platform.fmspc, quote.platform.pce_id, quote.platform.ppid)
    if claims.version != quote.version or claims.platform != own_platform:
        raise EvidenceInvalid("two readings of one quote differ in version or platform")
    own = _own_report(quote.report)
    differing = sorted(name for name in own if claims.report.get(name) != own[name])
    if differing:
        raise EvidenceInvalid(f"two readings of one quote differ in {', '.join(differing)}")


def _own_report(report: TdReport) -> dict[str, str]:
    names = _REPORT_FIELDS if report.tee_tcb_svn2 is None else {**_REPORT_FIELDS, **_REPORT_FIELDS_15}
    return {theirs: getattr(report, ours).hex() for theirs, ours in names.items()}


def _report(report: dict[str, Json]) -> dict[str, str]:
    """Flatten the nested shapes: 1.5 holds 1.0 as `base`, the extended one holds 1.5."""
    if len(report) != 1:
        raise EvidenceInvalid("claims hold no single report")
    flat = _object(report, next(iter(report)))
    while "base" in flat:
        flat = {**_object(flat, "base"), **{name: value for name, value in flat.items() if name != "base"}}
    return {name: value for name, value in flat.items() if isinstance(value, str)}


def _object(members: dict[str, Json], name: str) -> dict[str, Json]:
    value = members.get(name)
    if not isinstance(value, dict):
        raise EvidenceInvalid(f"claims hold no object {name!r}")
    return value


def _whole(members: dict[str, Json], name: str) -> int:
    value = members.get(name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise EvidenceInvalid(f"claims hold no number {name!r}")
    return value


def _octets(members: dict[str, Json], name: str) -> bytes:
    """Return bytes that the claims contain as a list of numbers."""
    value = members.get(name)
    numbers = [n for n in value if type(n) is int and 0 <= n < 256] if isinstance(value, list) else []
    if not numbers or value != numbers:
        raise EvidenceInvalid(f"claims hold no bytes {name!r}")
    return bytes(numbers)


def _status(members: dict[str, Json], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or value not in KNOWN_STATUSES:
        raise EvidenceInvalid(f"unknown TCB status {str(value)[:40]!r}")
    return value


def _advisories(tcb: dict[str, Json]) -> tuple[str, ...]:
    value = tcb.get("advisory_ids")
    if not isinstance(value, list) or len(value) > MAX_ADVISORIES:
        raise EvidenceInvalid("claims hold no list of advisories")
    names = [name for name in value if isinstance(name, str)]
    if len(names) != len(value):
        raise EvidenceInvalid("an advisory is no text")
    return tuple(sorted(set(names)))
