"""What a grant allows a runner to do, in plain words.

Example:
    print("\\n".join(run_words(statement)))
"""

from contextlib import suppress

from ...documents.call_conditions import (
    AccountPattern,
    AllowAll,
    Condition,
    Logic,
    Not,
    Owner,
    ValidUntil,
    WasmHash,
    Whitelist,
)
from ...documents.run_grants import (
    ByBuilds,
    ByHash,
    ProgramRule,
    RunGrant,
    RunStatement,
    read_run_grant,
)
from ...errors import InvalidPortableDelegation
from ...session import iso_time
from ...wire.portable import PortableDelegation

_MOST_FACT_CHARS = 500


def run_words(run: RunStatement) -> tuple[str, ...]:
    """Describe the permissions that a grant gives a runner.

    The lines name programs, callers, hosts and limits.
    """
    lines = [f"for the program {program_words(rule)}" for rule in run.programs]
    lines.append(f"callers: {caller_words(run.callers)}")
    lines.append(f"it may send to: {', '.join(run.hosts) or 'no host'}")
    lines.append(f"limits of a run: {_limits(run) or 'those of the runner'}")
    if run.allows_unbound:
        lines.append(
            "secrets that do not say where they belong are delivered, too: whoever may write one of"
            " these secrets can have the program read another secret of yours"
        )
    if run.refresh_for:
        lines.append("a job with the token may grant later builds")
    return tuple(lines)


def run_sentence(run: RunStatement) -> str:
    """Summarise in one line what a grant allows a runner to do.

    Long parts are truncated.
    """
    programs = _cut(" or ".join(program_words(rule) for rule in run.programs))
    limits = _limits(run)
    callers = _cut(caller_words(run.callers))
    hosts = _cut(", ".join(run.hosts)) or "no host"
    sentence = f"for {programs}; called by {callers}; sends to {hosts}"
    if run.allows_unbound:
        sentence += "; also values that do not say where they belong"
    return f"{sentence}; at most {limits}" if limits else sentence


def run_grant_of(portable: PortableDelegation) -> RunGrant | None:
    """Parse a grant that lets a runner use secrets, or a job grant.

    Return None if the delegation is not such a grant.
    """
    return run_grant_in(portable.header, portable.delegate_did)


def run_grant_in(header: str, recipient: str) -> RunGrant | None:
    """Parse a delegation to a DID as a run grant or job grant; None if it is neither."""
    # `read_run_grant` expects the recipient of a run grant, and None for a job grant.
    for runner in (recipient, None):
        with suppress(InvalidPortableDelegation):
            return read_run_grant(header, runner=runner)
    return None


def program_words(rule: ProgramRule) -> str:
    """Describe the program that a rule names."""
    if isinstance(rule, ByHash):
        words = f"{rule.wasm_sha256} of {rule.project.text}" if rule.project else rule.wasm_sha256
        return f"{words}, built from {rule.build.words}" if rule.build else words
    if isinstance(rule, ByBuilds):
        return f"{rule.project.text}, {rule.builds.words}; the runner verifies each build"
    return f"{rule.project.text}, whatever version its developer makes the active one"


def caller_words(condition: Condition) -> str:
    """Describe the callers that a condition admits."""
    match condition:
        case Owner():
            return "you alone, or with API keys of yours"  # a key calls in its owner's name (RN90)
        case Whitelist(accounts) if len(accounts) == 1:
            return f"{accounts[0]} alone, or with its API keys"
        case _:
            return _admitted(condition)


def _admitted(condition: Condition) -> str:
    """Return words for the callers whom a condition admits."""
    match condition:
        case AllowAll():
            return "anybody"
        case Owner():
            return "you"
        case Whitelist(accounts):
            return " or ".join(accounts) or "nobody"
        case AccountPattern(pattern):
            return f"anybody whose DID matches {pattern!r}"
        case ValidUntil(until, text):
            return f"anybody before {iso_time(until) if text.isdigit() else text}"
        case WasmHash(sha256):
            return f"anybody who calls {sha256}"
        case Logic("And", conditions):
            return _join_conditions(conditions, "who is also") or "anybody"
        case Logic(_, conditions):
            return _join_conditions(conditions, "or") or "nobody"
        case Not(inner):
            return f"anybody but ({_admitted(inner)})"


def _join_conditions(conditions: tuple[Condition, ...], word: str) -> str:
    if len(conditions) == 1:
        return _admitted(conditions[0])
    return f" {word} ".join(f"({_admitted(condition)})" for condition in conditions)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_FACT_CHARS else f"{text[:_MOST_FACT_CHARS]}…"


def _limits(run: RunStatement) -> str:
    return ", ".join(f"{name} {most}" for name, most in run.limits.stated.items())
