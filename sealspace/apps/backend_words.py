"""What was seen of a backend, for a person to read and for a program.

Example:
    print("\\n".join(in_plain_words(seen, policy)))
    print(json.dumps(as_json(seen, policy)))
"""

from collections.abc import Sequence
from typing import Final

from capabilities.strict_json import Json
from encryption_network.policy import DEFAULT_TD_ATTRIBUTES, Policy, policy_json

from ..printable import printable
from ..tokens import shown_time
from .backends import Seen

SOON_S: Final = 5 * 86_400.0
"""Collateral that ends within this time is worth a warning: releases stop with it."""

_MOST_NAME_CHARS: Final = 40
_MOST_ENTRY_CHARS: Final = 160
_MOST_SHOWN: Final = 32
_SEPT_VE_DISABLE: Final = 28
_RUNNER_LINES: Final = (
    "runner         runs programs of others; a grant says which programs, for which callers, and where they may send",
    "               the node holds it to this code; programs, callers and hosts are held by this code alone",
)
_ATTRIBUTE_BITS: Final = {
    0: "DEBUG",
    16: "ICSSD",
    27: "LASS",
    _SEPT_VE_DISABLE: "SEPT_VE_DISABLE",
    30: "PKS",
    63: "PERFMON",
}


def in_plain_words(seen: Seen, policy: Policy | None = None) -> tuple[str, ...]:
    """Return what was seen, a fact a line, then what a grant would name, then what to think about.

    Args:
        seen: from `backends.look_at`.
        policy: what a grant would state; None leaves those lines out.
    """
    return (*_facts(seen), *([] if policy is None else _pinned(policy)), *(f"warning: {one}" for one in warnings(seen)))


def warnings(seen: Seen) -> tuple[str, ...]:
    """Return what an owner should know before granting."""
    evidence, found = seen.verified.evidence, []
    if not seen.verified.root_is_intel:
        found.append("the platform's root certificate is not Intel's: it proves what the owner of that root wants")
    if evidence.compose_hash is None:
        found.append("no event log: the registers say what runs, and no compose file can be compared with them")
    if evidence.compose_hash is not None:
        found.append("a compose hash counts only on an image that you know: compare MRTD and RTMR0 to RTMR2 too")
    if seen.published.statement.compose is None and evidence.compose_hash is not None:
        found.append("it does not show its compose file: compare the compose hash with the one that you reviewed")
    if evidence.tcb_status != "UpToDate":
        found.append(f"the platform's status is {evidence.tcb_status}")
    if evidence.advisories:
        found.append(f"advisories apply to the platform: {', '.join(evidence.advisories)}")
    if evidence.td_attributes != DEFAULT_TD_ATTRIBUTES:
        found.append(f"unusual attributes of the trust domain: {_attributes(evidence.td_attributes)}")
    if _collateral_end(seen) - seen.seen_at < SOON_S:
        found.append(
            f"the collateral ends at {shown_time(_collateral_end(seen))}: without newer one nothing is released then"
        )
    if seen.further_wishes:
        found.append(f"its manifest asks for more, which is no part of a grant: {_first(seen.further_wishes, '; ')}")
    return tuple(found)


def as_json(seen: Seen, policy: Policy | None = None) -> dict[str, Json]:
    """Return the same for a program; bytes are hex, times RFC 3339."""
    evidence = seen.verified.evidence
    return {
        "url": seen.url,
        "did": seen.did,
        "name": seen.published.statement.manifest.name,
        "isRunner": seen.is_runner,
        "composeHash": None if evidence.compose_hash is None else evidence.compose_hash.hex(),
        "appId": None if evidence.app_id is None else evidence.app_id.hex(),
        "keyProvider": evidence.key_provider,
        "measurements": {
            "mrtd": evidence.mrtd.hex(),
            "rtmr0": evidence.rtmr0.hex(),
            "rtmr1": evidence.rtmr1.hex(),
            "rtmr2": evidence.rtmr2.hex(),
            "rtmr3": evidence.rtmr3.hex(),
        },
        "tdAttributes": evidence.td_attributes.hex(),
        "debug": _is_debugged(seen),
        "tcbStatus": evidence.tcb_status,
        "tcbDate": shown_time(evidence.tcb_date),
        "advisories": list(evidence.advisories),
        "evaluationNumber": evidence.evaluation_number,
        "platformFamily": evidence.fmspc.hex(),
        "rootIsIntel": seen.verified.root_is_intel,
        "collateral": [
            {"part": one.name, "from": shown_time(one.starts_at), "until": shown_time(one.ends_at)}
            for one in seen.verified.windows
        ],
        "secrets": [one.label for one in seen.wanted],
        "furtherWishes": list(seen.further_wishes),
        "warnings": list(warnings(seen)),
        "policy": None if policy is None else policy_json(policy),
        "seenAt": shown_time(seen.seen_at),
    }


def _facts(seen: Seen) -> list[str]:
    evidence, stated = seen.verified.evidence, seen.published.statement
    compose = "none (no event log)" if evidence.compose_hash is None else evidence.compose_hash.hex()
    issued = max((one.starts_at for one in seen.verified.windows), default=0.0)
    return [
        f"backend        at {seen.url}, calls itself {_quoted(stated.manifest.name)} {_quoted(stated.manifest.app_id)}",
        f"did            {seen.did}",
        f"asks to read   {_first([one.label for one in seen.wanted], ', ') or 'no secret'}",
        *(_RUNNER_LINES if seen.is_runner else ()),
        f"compose hash   {compose}",
        f"app id         {'none' if evidence.app_id is None else evidence.app_id.hex()}",
        f"key provider   {evidence.key_provider or 'none'}",
        f"MRTD           {evidence.mrtd.hex()}",
        f"RTMR0          {evidence.rtmr0.hex()}",
        f"RTMR1          {evidence.rtmr1.hex()}",
        f"RTMR2          {evidence.rtmr2.hex()}",
        f"RTMR3          {evidence.rtmr3.hex()}",
        f"attributes     {_attributes(evidence.td_attributes)}; debug {'ON' if _is_debugged(seen) else 'off'}",
        f"platform       {evidence.tcb_status}, level of {shown_time(evidence.tcb_date)}, "
        f"advisories {', '.join(evidence.advisories) or 'none'}",
        f"collateral     {_days(seen.seen_at - issued)} old, number {evidence.evaluation_number}, "
        f"holds until {shown_time(_collateral_end(seen))}",
        f"root           {'Intel' if seen.verified.root_is_intel else 'NOT Intel: ' + evidence.root_ca_sha256.hex()}",
    ]


def _pinned(policy: Policy) -> list[str]:
    image = policy.measurements[0]
    registers = "MRTD, RTMR0-2" if image.rtmr3 is None else "MRTD, RTMR0-3"
    code = [f"image {registers}", *(f"compose hash {one.hex()[:16]}…" for one in policy.compose_hashes)]
    code += [f"app id {one.hex()[:16]}…" for one in policy.app_ids]
    code += [f"keys from {one[:24]}" for one in policy.key_providers]
    terms = [f"platform {' or '.join(policy.tcb_statuses)}", f"advisories {', '.join(policy.advisories) or 'none'}"]
    return [
        f"a grant names  this DID; {', '.join(code)}",
        f"and demands    {'; '.join(terms)}; keys wrapped to the attested receiver key alone",
        *(f"for            {path}" for path in policy.paths),
    ]


def _quoted(text: str) -> str:
    """Show an untrusted name, short enough that it fills no line."""
    return f'"{printable(text, most=_MOST_NAME_CHARS)}"'


def _first(texts: Sequence[str], separator: str) -> str:
    """Show an untrusted list, cut to a readable length."""
    more = len(texts) - _MOST_SHOWN
    shown = separator.join(printable(text, most=_MOST_ENTRY_CHARS) for text in texts[:_MOST_SHOWN])
    return shown if more <= 0 else f"{shown}{separator}and {more} more"


def _is_debugged(seen: Seen) -> bool:
    return bool(seen.verified.evidence.td_attributes[0] & 1)


def _collateral_end(seen: Seen) -> float:
    return min((one.ends_at for one in seen.verified.windows), default=0.0)


def _attributes(attributes: bytes) -> str:
    value = int.from_bytes(attributes, "little")
    return ", ".join(_ATTRIBUTE_BITS.get(bit, f"bit {bit}") for bit in range(64) if value >> bit & 1) or "none"


def _days(seconds: float) -> str:
    return f"{max(seconds, 0) / 3600:.0f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.0f} days"
