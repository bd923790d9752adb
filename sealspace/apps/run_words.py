"""What a run grant admits, in plain words: which programs, callers and hosts.

Example:
    run = run_grant_of(portable)
    if run is not None:
        print("\\n".join(run_words(run.statement)))
        print(run_sentence(run.statement))  # the same in one line, for a table
"""

from typing import Final

from ..documents.call_conditions import AllowAll, Condition, Logic, Not, Owner, ValidUntil, WasmHash, Whitelist
from ..documents.run_grants import MOST, ByHash, ProgramRule, RunGrant, RunStatement, read_run_grant
from ..errors import InvalidPortableDelegation
from ..wire.portable import PortableDelegation

_MOST_CHARS: Final = 200


def run_words(run: RunStatement) -> tuple[str, ...]:
    """Return for which programs, callers and hosts a grant is, a fact a line; said to the owner of the secrets."""
    return (
        *(f"for the program {program_words(rule)}" for rule in run.programs),
        f"callers: {caller_words(run.callers)}",
        f"it may send to: {', '.join(run.hosts) or 'nobody'}",
        f"limits of a run: {_limits(run) or 'those of the runner'}",
    )


def run_sentence(run: RunStatement) -> str:
    """Return the same in one line; each fact is cut to a readable length, so that none hides another."""
    programs = _cut(" or ".join(program_words(rule) for rule in run.programs))
    limits = _limits(run)
    callers, hosts = _cut(caller_words(run.callers)), _cut(", ".join(run.hosts)) or "nobody"
    said = f"for {programs}; called by {callers}; sends to {hosts}"
    return f"{said}; at most {limits}" if limits else said


def run_grant_of(portable: PortableDelegation) -> RunGrant | None:
    """Return a grant as a run grant; None where it is none."""
    try:
        return read_run_grant(portable.header, runner=portable.delegate_did)
    except InvalidPortableDelegation:
        return None


def program_words(rule: ProgramRule) -> str:
    """Return which program a rule names."""
    if isinstance(rule, ByHash):
        return f"{rule.wasm_sha256} of {rule.project.text}" if rule.project else rule.wasm_sha256
    return f"{rule.project.text}, whatever version its developer makes the active one"


def caller_words(condition: Condition) -> str:
    """Return whom a condition admits."""
    match condition:
        case Owner():
            return "you alone, or with API keys of yours"  # a key calls in its maker's name (RN90)
        case Whitelist(accounts) if len(accounts) == 1:
            return f"{accounts[0]} alone, or with its API keys"
        case _:
            return _admitted(condition)


def _admitted(condition: Condition) -> str:
    match condition:
        case AllowAll():
            return "anybody"
        case Owner():
            return "you"
        case Whitelist(accounts):
            return " or ".join(accounts) or "nobody"
        case ValidUntil(_, text):
            return f"anybody before {text}"
        case WasmHash(sha256):
            return f"anybody who calls {sha256}"
        case Logic("And", conditions):
            return _joined(conditions, "who is also") or "anybody"
        case Logic(_, conditions):
            return _joined(conditions, "or") or "nobody"
        case Not(inner):
            return f"anybody but ({_admitted(inner)})"


def _joined(conditions: tuple[Condition, ...], word: str) -> str:
    if len(conditions) == 1:
        return _admitted(conditions[0])
    return f" {word} ".join(f"({_admitted(one)})" for one in conditions)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"


def _limits(run: RunStatement) -> str:
    stated = zip(MOST, (run.limits.max_instructions, run.limits.max_memory_mb, run.limits.max_execution_s), strict=True)
    return ", ".join(f"{name} {most}" for name, most in stated if most is not None)
