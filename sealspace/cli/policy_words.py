"""What a policy demands of code, a fact a line, and how one differs from another."""

from collections.abc import Mapping
from typing import Final

from encryption_network.policy import Measurements, Policy
from encryption_network.release_record import Mode

MODE_WORDS: Final[Mapping[Mode, str]] = {
    "everyone": "proof of approved code from everyone, the owner included",
    "delegates": "nothing from the owner in person; from everyone else proof of approved code",
    "off": "nothing: it opens for whoever was granted it, whatever code that is",
}
"""Mode of a node -> what it demands before it opens anything."""
_DAY_S = 86_400


def policy_words(policy: Policy | None) -> tuple[str, ...]:
    """Return what a policy says, whole values included, so that two policies with the same lines are the same."""
    if policy is None:
        return ("nothing is stated about code",)
    lines = [_code(one) for one in policy.measurements] or ["approves no code by itself: a grant has to name it"]
    lines += [f"compose file {one.hex()}" for one in policy.compose_hashes]
    lines += [f"app id {one.hex()}" for one in policy.app_ids]
    lines += [f"keys of the application from {one}" for one in policy.key_providers]
    lines += [f"attributes of the trust domain {one.hex()}" for one in policy.td_attributes]
    lines += [f"platform {one.hex()}" for one in policy.platform_ids]
    lines += [f"platform status {one}" for one in policy.tcb_statuses]
    if policy.tcb_grace_s is not None:
        lines.append(f"outdated platforms for {policy.tcb_grace_s / _DAY_S:g} days after the date of their level")
    lines += [f"platforms with the advisory {one}" for one in policy.advisories]
    if policy.min_evaluation_number:
        lines.append(f"judged by collateral of number {policy.min_evaluation_number} or newer")
    if policy.max_age_s is not None:
        lines.append(f"attested at most {policy.max_age_s} s ago")
    if policy.receiver == "signed":
        lines.append("keys go to any receiver key that the code's DID signed, not only to the attested one")
    lines += [f"only what is stored at {one}" for one in policy.paths]
    if not policy.in_person:
        lines.append("the owner's own sessions have to prove their code too")
    return tuple(lines)


def policy_changes(before: Policy | None, after: Policy | None) -> tuple[str, ...]:
    """Return what changes: `- ` before a line that goes, `+ ` before one that comes, blanks before one that stays."""
    old, new = policy_words(before), policy_words(after)
    return (
        *(f"- {line}" for line in old if line not in new),
        *(f"{'  ' if line in old else '+ '}{line}" for line in new),
    )


def only_tightens(before: Policy | None, after: Policy | None) -> bool:
    """Whether nothing is accepted that was refused: False in doubt, and wherever a list of code appears or goes.

    A policy that approves code is the list that delegates are judged by (RL5), so that the first one opens something.
    """
    if after is None or before is None:
        return after == before or (before is None and after is not None and not after.is_allow_list)
    return after.is_within(before) and (before.is_allow_list or not after.is_allow_list)


def _code(entry: Measurements) -> str:
    registers = (entry.mrtd, entry.rtmr0, entry.rtmr1, entry.rtmr2)
    named = ", ".join(f"{name} {value.hex()}" for name, value in zip(_REGISTERS, registers, strict=True))
    last = "as the compose file makes it" if entry.rtmr3 is None else entry.rtmr3.hex()
    return f"code {named}, RTMR3 {last}"


_REGISTERS = ("MRTD", "RTMR0", "RTMR1", "RTMR2")
