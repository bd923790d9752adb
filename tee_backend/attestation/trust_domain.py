"""Which states of a trust domain can never be trusted, whatever a policy says.

TDATTRIBUTES, a little-endian u64:

| bits | meaning | here |
|---|---|---|
| 0 | DEBUG: the host may read the memory | refused |
| 1-7 | profiling; any of them makes the domain untrusted | refused |
| 16 | ICSSD | the policy's matter |
| 17 | SERVTD_EXT | refused |
| 27 | LASS | the policy's matter |
| 28 | SEPT_VE_DISABLE | must be set |
| 29 | MIGRATABLE: the memory may leave for another machine | refused |
| 30 | PKS | the policy's matter |
| 31 | KL | refused |
| 62 | TPA | refused |
| 63 | PERFMON: a side channel | the policy's matter |
| others | reserved | refused |

XFAM: bits 0 and 1 (x87, SSE) are always set, bits outside 0x6DBE7 never. A measurement of zero is no measurement: it is
a hash, so a domain that was built shows another value.

Source: Intel TDX Module Base Architecture and ABI specifications.
"""

from .errors import QuoteRefused
from .quote import TdReport

SEPT_VE_DISABLE = 1 << 28
POLICY_BITS = (1 << 16) | (1 << 27) | (1 << 30) | (1 << 63)
"""Attribute bits that verification lets pass; a policy names the exact attributes it accepts."""

_NAMED_BITS = {0: "DEBUG", 17: "SERVTD_EXT", 29: "MIGRATABLE", 31: "KL", 62: "TPA"}
_XFAM_FIXED_ONE = 0x3
_XFAM_ALLOWED = 0x6DBE7

# Hash and attributes of service domains in the extended report, offsets from the extension's start.
_SERVICE_AT_LAUNCH = slice(81, 137)
_SERVICE_NOW = slice(181, 237)


def check_trust_domain(report: TdReport) -> None:
    """Refuse states that no policy may accept.

    Raises:
        QuoteRefused: `td-attributes`, attributes, XFAM, module signer, service domains or MRTD.
    """
    _check_attributes(int.from_bytes(report.td_attributes, "little"))
    _check_xfam(int.from_bytes(report.xfam, "little"))
    if any(report.mr_signer_seam) or any(report.seam_attributes):
        raise QuoteRefused("td-attributes", "the TDX module is not Intel's own")
    if report.mr_service_td is not None and any(report.mr_service_td):
        raise QuoteRefused("td-attributes", "a service domain is bound to the trust domain")
    if any(report.extension[_SERVICE_AT_LAUNCH]) or any(report.extension[_SERVICE_NOW]):
        raise QuoteRefused("td-attributes", "a service domain was or is bound to the trust domain")
    if not any(report.mrtd):
        raise QuoteRefused("td-attributes", "MRTD is zero: nothing was measured")


def _check_attributes(attributes: int) -> None:
    refused = attributes & ~(SEPT_VE_DISABLE | POLICY_BITS)
    if refused:
        bit = (refused & -refused).bit_length() - 1
        raise QuoteRefused(
            "td-attributes", f"attribute bit {bit} ({_NAMED_BITS.get(bit, 'profiling or reserved')}) is set"
        )
    if not attributes & SEPT_VE_DISABLE:
        raise QuoteRefused("td-attributes", "SEPT_VE_DISABLE is not set")


def _check_xfam(xfam: int) -> None:
    if xfam & _XFAM_FIXED_ONE != _XFAM_FIXED_ONE or xfam & ~_XFAM_ALLOWED:
        raise QuoteRefused("td-attributes", f"impossible XFAM {xfam:#x}")
