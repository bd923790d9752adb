"""`sealspace runner list`: the run grants that were made from here, and what one says in plain words."""

import click

from capabilities.strict_json import Json
from sealspace.call_conditions import AllowAll, Condition, Owner, Whitelist, condition_json
from sealspace.client import Client
from sealspace.errors import InvalidPortableDelegation
from sealspace.run_grants import MOST, ByHash, ProgramRule, RunStatement, read_run_grant, run_statement_json

from ..terminal import print_rows, time_text
from .grant_list import state_at_node
from .owner_profile import at_node, owner_home


@click.command("list", epilog="To end the grants to a runner: `sealspace runner revoke URL`.")
def list_() -> None:
    """Show the run grants that were made from here: for which programs and callers, and how each stands at the node."""
    listed = _list()
    print_rows(
        [shown for shown, _ in listed],
        ("state", "until", "runner", "secrets", "programs", "callers"),
        [cells for _, cells in listed],
        nothing="nothing was granted to a runner from here; next: sealspace runner grant URL",
    )


@at_node
async def _list(client: Client) -> list[tuple[dict[str, Json], tuple[str, ...]]]:
    listed: list[tuple[dict[str, Json], tuple[str, ...]]] = []
    for one in owner_home().grants():
        try:
            read = read_run_grant(one.portable.header, runner=one.portable.delegate_did)
        except InvalidPortableDelegation:  # a grant to a backend that is no runner
            continue
        state, until = await state_at_node(client, one.portable.cid), time_text(read.expires_at)
        secrets, run = [secret.label for secret in read.secrets], run_statement_json(read.statement)
        shown: dict[str, Json] = {
            "state": state,
            "expiresAt": until,
            "url": one.url,
            "did": one.portable.delegate_did,
            "secrets": [*secrets],
            "run": run,
            "cid": one.portable.cid,
        }
        programs = ", ".join(_program_words(rule) for rule in read.statement.programs)
        cells = (state, until, one.url or "-", ", ".join(secrets), programs, _caller_words(read.statement.callers))
        listed.append((shown, cells))
    return listed


# --- saying it --------------------------------------------------------------------------------------------------------


def run_words(run: RunStatement) -> tuple[str, ...]:
    """Return for which programs, callers and hosts a grant is, a fact a line."""
    stated = zip(MOST, (run.limits.max_instructions, run.limits.max_memory_mb, run.limits.max_execution_s), strict=True)
    limits = ", ".join(f"{name} {most}" for name, most in stated if most is not None)
    return (
        *(f"for the program {_program_words(rule)}" for rule in run.programs),
        f"callers: {_caller_words(run.callers)}",
        f"it may send to: {', '.join(run.hosts) or 'nobody'}",
        f"limits of a run: {limits or 'those of the runner'}",
    )


def _program_words(rule: ProgramRule) -> str:
    if isinstance(rule, ByHash):
        return rule.wasm_sha256
    return f"{rule.project.text}, whatever version its developer makes the active one"


def _caller_words(condition: Condition) -> str:
    match condition:
        case AllowAll():
            return "anybody"
        case Owner():
            return "you alone"
        case Whitelist(accounts) if accounts:
            return ", ".join(accounts)
        case _:
            return str(condition_json(condition))
