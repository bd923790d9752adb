"""The verification library's report on a quote.

Two parsers read every quote. If they disagree, the quote is refused, whichever of them is wrong.

Source: claims version 1 of the pinned verifier library.
"""

from dataclasses import fields
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec import field as member

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import parse_json, shaped
from encryption_network.policy import ACCEPTABLE_STATUSES

from .attestation_errors import QuoteRefused
from .quote import Quote, TdReport

MAX_CLAIMS_BYTES = 64 * 1024
MAX_ADVISORIES = 256

_Whole = Annotated[int, Meta(ge=0, lt=1 << 53)]
_Octets = Annotated[list[Annotated[int, Meta(ge=0, lt=256)]], Meta(min_length=1)]
# Our field names, and the library's where they differ.
_THEIRS = {
    "mrtd": "mr_td",
    "rtmr0": "rt_mr0",
    "rtmr1": "rt_mr1",
    "rtmr2": "rt_mr2",
    "rtmr3": "rt_mr3",
}


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
    status: str = member(name="tcbStatus")


class _Qe(Struct):
    tcb_level: _QeLevel


class Claims(Struct):
    """Facts about a quote, as reported by the verification library.

    Unused members are ignored.
    """

    tee_type: Literal[0x81]
    header: _Header
    tcb: _Tcb
    platform: _Platform
    qe: _Qe
    report: dict[str, Any]


def parse_claims(data: bytes) -> Claims:
    """Parse the JSON result of the quote verification library."""
    try:
        claims = shaped(parse_json(data, max_bytes=MAX_CLAIMS_BYTES), Claims)
    except InvalidJson as exc:
        raise QuoteRefused("evidence-invalid", f"claims: {exc}") from exc
    for status in (claims.tcb.status, claims.qe.tcb_level.status):
        if status not in ACCEPTABLE_STATUSES:
            raise QuoteRefused("evidence-invalid", f"unknown TCB status {status[:40]!r}")
    if len(claims.report) != 1:
        raise QuoteRefused("evidence-invalid", "the claims do not contain exactly one report")
    (report,) = claims.report.values()
    # Nested shapes: report 1.5 contains 1.0 as `base`, and the extended one contains 1.5.
    while isinstance(report, dict) and "base" in report:
        base = report.pop("base")
        # A base that is not an object ends the loop, and is refused below.
        report = {**base, **report} if isinstance(base, dict) else None
    if not isinstance(report, dict):
        raise QuoteRefused("evidence-invalid", "the report in the claims is not a JSON object")
    claims.report = report
    return claims


def check_same_reading(quote: Quote, claims: Claims) -> None:
    """Check that two parsers agree about a quote.

    The parsers are the verifier library and our own parser.
    """
    pck = claims.platform.pck
    library_platform = (bytes(pck.fmspc), bytes(pck.pce_id), bytes(pck.ppid))
    own_platform = (quote.platform.fmspc, quote.platform.pce_id, quote.platform.ppid)
    if claims.header.version != quote.version or library_platform != own_platform:
        raise QuoteRefused(
            "evidence-invalid", "the two quote parsers disagree about the version or the platform"
        )
    differing = []
    for field in fields(TdReport):
        own_value = getattr(quote.report, field.name)
        # A field that is missing in a shorter report is None, so it is not compared.
        if not isinstance(own_value, bytes) or field.name == "extension":
            continue
        library_value = claims.report.get(_THEIRS.get(field.name, field.name))
        if library_value != own_value.hex():
            differing.append(field.name)
    if differing:
        raise QuoteRefused(
            "evidence-invalid", f"the two quote parsers disagree about {', '.join(differing)}"
        )
