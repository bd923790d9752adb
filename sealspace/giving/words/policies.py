"""Key-release policies in plain words.

Example:
    print("\\n".join(policy_words(policy)))
"""

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from encryption_network.key_providers import provider_text
from encryption_network.policy import (
    REGISTERS,
    Measurements,
    Policy,
)
from encryption_network.release_record import Mode

MODE_WORDS: Mapping[Mode, str] = {
    "everyone": "proof of approved code from everyone, the owner included",
    "delegates": "nothing from the owner in person, machine tokens and CI jobs; from everyone else"
    " proof of approved code",
    "off": "nothing: it opens for everyone with a grant, whatever their code is",
}
"""Release mode of a node to the proof that it requires before it opens anything."""
DAY_S = 86_400


def policy_words(policy: Policy | None) -> tuple[str, ...]:
    """Describe every part of a key-release policy.

    Equal descriptions mean equal policies.
    """
    if policy is None:
        return ("there is no policy on code",)
    lines = [_code(measurement) for measurement in policy.measurements] or [
        "approves no code by itself: a grant has to name it"
    ]
    listed: dict[str, Sequence[str | bytes]] = {
        "compose file": policy.compose_hashes,
        "app id": policy.app_ids,
        "keys of the application from": [*map(provider_text, policy.key_providers)],
        "attributes of the trust domain": policy.td_attributes,
        "platform": policy.platform_ids,
        "platform status": policy.tcb_statuses,
    }
    for name, values in listed.items():
        for value in values:
            shown = value.hex() if isinstance(value, bytes) else value
            lines.append(f"{name} {shown}")
    if policy.tcb_grace_s is not None:
        lines.append(
            f"outdated platforms for {policy.tcb_grace_s / DAY_S:g} days after the date of their"
            " level"
        )
    lines += [f"platforms with the advisory {advisory}" for advisory in policy.advisories]
    if policy.min_evaluation_number:
        lines.append(f"judged by collateral of number {policy.min_evaluation_number} or newer")
    if policy.max_age_s is not None:
        lines.append(f"attested at most {policy.max_age_s} s ago")
    if policy.receiver == "signed":
        lines.append(
            "keys go to any receiver key that the code's DID signed, not only to the attested one"
        )
    lines += [f"only what is stored at {path}" for path in policy.paths]
    if not policy.in_person:
        lines.append("the owner's own sessions have to prove their code too")
    return tuple(lines)


def policy_changes(before: Policy | None, after: Policy | None) -> tuple[str, ...]:
    """Describe the changes to a key-release policy as a diff.

    If each policy names one code, each of its registers has a line of its own.
    """
    old = policy_words(before)
    new = policy_words(after)
    if _has_one_code(before) and _has_one_code(after):
        old = _register_lines(before) + old[1:]
        new = _register_lines(after) + new[1:]
    changes = [f"- {line}" for line in old if line not in new]
    for line in new:
        mark = "  " if line in old else "+ "
        changes.append(mark + line)
    return tuple(changes)


def _code(entry: Measurements) -> str:
    return f"code {', '.join(_registers(entry))}"


def _registers(entry: Measurements) -> tuple[str, ...]:
    lines = [f"{name.upper()} {getattr(entry, name).hex()}" for name in REGISTERS[:-1]]
    return (*lines, f"RTMR3 {hex_of(entry.rtmr3) or 'as the compose file makes it'}")


def _has_one_code(policy: Policy | None) -> TypeGuard[Policy]:
    return policy is not None and len(policy.measurements) == 1


def _register_lines(policy: Policy) -> tuple[str, ...]:
    return tuple(f"code {line}" for line in _registers(policy.measurements[0]))


def hex_of(value: bytes | None) -> str | None:
    """Return a measurement in hexadecimal, or None."""
    return None if value is None else value.hex()
