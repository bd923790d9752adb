"""What a backend states and proves, in plain words.

Texts of backends are untrusted; every line is made safe for a terminal.

Example:
    print("\\n".join(in_plain_words(seen, policy)))
"""

from collections.abc import Sequence

from capabilities.clock_and_entropy import time_text
from capabilities.strict_json import JsonObject
from encryption_network.key_providers import provider_text
from encryption_network.policy import (
    DEFAULT_TD_ATTRIBUTES,
    REGISTERS,
    Policy,
    policy_json,
)

from ...apps.backends import Seen
from ...printable import printable
from .policies import DAY_S, hex_of

SOON_S = 5 * 86_400.0
"""Remaining validity of collateral below which to warn, seconds: releases stop when it ends."""

_OS_IMAGE = ("mrtd", "rtmr0", "rtmr1", "rtmr2")
"""The values that tell the operating system's image."""
_MOST_NAME_CHARS = 40
_MOST_ENTRY_CHARS = 160
_MOST_SHOWN = 32
_RUNNER_LINES = (
    (
        "runner         runs programs of others; a grant says which programs, for which callers,"
        " and where they may send"
    ),
    (
        "               the node checks the runner's code; the runner alone checks programs,"
        " callers and hosts"
    ),
)
_ATTRIBUTE_BITS = {
    0: "DEBUG",
    16: "ICSSD",
    27: "LASS",
    28: "SEPT_VE_DISABLE",
    30: "PKS",
    63: "PERFMON",
}


def in_plain_words(seen: Seen, policy: Policy | None = None) -> tuple[str, ...]:
    """Describe a backend in plain words.

    Each line states one fact. With `policy`, the result also describes a grant under this policy.
    """
    lines = _facts(seen)
    if policy is not None:
        lines += _lines_about_policy(policy)
    lines += [f"warning: {warning}" for warning in warnings(seen)]
    return tuple(lines)


def warnings(seen: Seen) -> tuple[str, ...]:
    """Return warnings for an owner who grants secrets to a backend."""
    evidence = seen.verified.evidence
    texts = []
    if not seen.verified.root_is_intel:
        texts.append(
            "the platform's root certificate is not Intel's: its owner can forge any evidence"
        )
    if evidence.compose_hash is None:
        texts.append(
            "there is no event log: the code is known by its registers only, not by a compose file"
        )
    else:
        if not seen.same_as_files.issuperset(_OS_IMAGE):
            texts.append(
                "a compose hash proves nothing on an unknown image: compare MRTD and RTMR0 to RTMR2"
                " too"
            )
        is_file_known = seen.published.statement.compose is not None
        if not is_file_known and "composeHash" not in seen.same_as_files:
            texts.append(
                "it does not publish its compose file: compare the compose hash with that of the"
                " file that you reviewed"
            )
    if evidence.tcb_status != "UpToDate":
        texts.append(f"the platform's status is {evidence.tcb_status}")
    if evidence.advisories:
        texts.append(f"advisories apply to the platform: {', '.join(evidence.advisories)}")
    if evidence.td_attributes != DEFAULT_TD_ATTRIBUTES:
        texts.append(
            f"unusual attributes of the trust domain: {_attributes(evidence.td_attributes)}"
        )
    end = _collateral_end(seen)
    if end - seen.seen_at < SOON_S:
        texts.append(
            f"the collateral expires at {time_text(end)}: releases then stop unless it is renewed"
        )
    if seen.further_wishes:
        texts.append(
            "its manifest requests more, which a grant does not include:"
            f" {_join_first(seen.further_wishes, '; ')}"
        )
    return tuple(texts)


def as_json(seen: Seen, policy: Policy | None = None) -> JsonObject:
    """Return a backend's description as JSON.

    Bytes are in hex, and times in RFC 3339.
    """
    evidence = seen.verified.evidence
    return {
        "url": seen.url,
        "did": seen.did,
        "name": seen.published.statement.manifest.name,
        "isRunner": seen.is_runner,
        "composeHash": hex_of(evidence.compose_hash),
        "appId": hex_of(evidence.app_id),
        "keyProvider": evidence.key_provider,
        "measurements": {name: getattr(evidence, name).hex() for name in REGISTERS},
        "tdAttributes": evidence.td_attributes.hex(),
        "debug": _is_debugged(seen),
        "tcbStatus": evidence.tcb_status,
        "tcbDate": time_text(evidence.tcb_date),
        "advisories": list(evidence.advisories),
        "evaluationNumber": evidence.evaluation_number,
        "platformFamily": evidence.fmspc.hex(),
        "rootIsIntel": seen.verified.root_is_intel,
        "collateral": [
            {
                "part": window.name,
                "from": time_text(window.starts_at),
                "until": time_text(window.ends_at),
            }
            for window in seen.verified.windows
        ],
        "secrets": [secret.label for secret in seen.wanted],
        "furtherWishes": list(seen.further_wishes),
        "warnings": list(warnings(seen)),
        "policy": None if policy is None else policy_json(policy),
        "seenAt": time_text(seen.seen_at),
    }


def _facts(seen: Seen) -> list[str]:
    """Describe in lines of text what a backend states, and what its evidence proves."""
    evidence = seen.verified.evidence
    stated = seen.published.statement
    root = "Intel"
    if not seen.verified.root_is_intel:
        root = f"NOT Intel: {evidence.root_ca_sha256.hex()}"
    # The collateral is as old as its newest part.
    made_at = max((window.starts_at for window in seen.verified.windows), default=0.0)
    age_s = seen.seen_at - made_at
    age = f"{age_s / DAY_S:.0f} days"
    if age_s < 2 * DAY_S:
        age = f"{max(age_s, 0) / 3600:.0f} h"
    secrets = _join_first([secret.label for secret in seen.wanted], ", ")
    return [
        (
            f"backend        at {seen.url}, calls itself {_quote(stated.manifest.name)}"
            f" {_quote(stated.manifest.app_id)}"
        ),
        f"did            {seen.did}",
        f"asks to read   {secrets or 'no secret'}",
        *(_RUNNER_LINES if seen.is_runner else ()),
        f"compose hash   {hex_of(evidence.compose_hash) or 'none (no event log)'}",
        f"app id         {hex_of(evidence.app_id) or 'none'}",
        f"key provider   {provider_text(evidence.key_provider or 'none')}",
        *(f"{name.upper():<14} {getattr(evidence, name).hex()}" for name in REGISTERS),
        (
            f"attributes     {_attributes(evidence.td_attributes)}; debug"
            f" {'ON' if _is_debugged(seen) else 'off'}"
        ),
        (
            f"platform       {evidence.tcb_status}, level of {time_text(evidence.tcb_date)}, "
            f"advisories {', '.join(evidence.advisories) or 'none'}"
        ),
        (
            f"collateral     {age} old, number {evidence.evaluation_number}, "
            f"valid until {time_text(_collateral_end(seen))}"
        ),
        f"root           {root}",
    ]


def _lines_about_policy(policy: Policy) -> list[str]:
    """Return the lines that say what a grant with a policy names and requires."""
    registers = "MRTD, RTMR0-2" if policy.measurements[0].rtmr3 is None else "MRTD, RTMR0-3"
    code = [
        f"image {registers}",
        *(f"compose hash {compose_hash.hex()[:16]}…" for compose_hash in policy.compose_hashes),
    ]
    code += [f"app id {app_id.hex()[:16]}…" for app_id in policy.app_ids]
    code += [f"keys from {provider[:24]}" for provider in policy.key_providers]
    terms = [
        f"platform {' or '.join(policy.tcb_statuses)}",
        f"advisories {', '.join(policy.advisories) or 'none'}",
    ]
    return [
        f"a grant names  this DID; {', '.join(code)}",
        f"and requires   {'; '.join(terms)}; keys wrapped only to the attested receiver key",
        *(f"for            {path}" for path in policy.paths),
    ]


def _quote(text: str) -> str:
    return f'"{printable(text, most=_MOST_NAME_CHARS)}"'


def _join_first(texts: Sequence[str], separator: str) -> str:
    more = len(texts) - _MOST_SHOWN
    shown = separator.join(printable(text, most=_MOST_ENTRY_CHARS) for text in texts[:_MOST_SHOWN])
    return shown if more <= 0 else f"{shown}{separator}and {more} more"


def _is_debugged(seen: Seen) -> bool:
    return bool(seen.verified.evidence.td_attributes[0] & 1)


def _collateral_end(seen: Seen) -> float:
    return min((window.ends_at for window in seen.verified.windows), default=0.0)


def _attributes(attributes: bytes) -> str:
    value = int.from_bytes(attributes, "little")
    names = []
    for bit in range(64):
        is_set = (value >> bit) & 1
        if is_set:
            names.append(_ATTRIBUTE_BITS.get(bit, f"bit {bit}"))
    return ", ".join(names) or "none"
