"""`sealspace runner list`: the run grants that were made from here."""

import click

from capabilities.strict_json import Json
from sealspace.apps.descriptions import caller_words, program_words, run_grant_of
from sealspace.cli.grant_list import state_at_node
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.terminal import print_rows, time_text
from sealspace.client import Client
from sealspace.documents.run_grants import run_statement_json


@click.command("list", epilog="To end the grants to a runner: `sealspace runner revoke URL`.")
@at_node
async def list_(client: Client) -> None:
    """Show the run grants that were made from here: for which programs and callers, and how each stands at the node."""
    found, rows = [], []
    for one in owner_home().grants():
        read = run_grant_of(one.portable)
        if read is None:  # a grant to a backend that is no runner
            continue
        run, secrets = read.statement, [secret.label for secret in read.secrets]
        state, until = await state_at_node(client, one.portable.cid), time_text(read.expires_at)
        found.append(
            {
                "state": state,
                "expiresAt": until,
                "url": one.url,
                "did": one.portable.delegate_did,
                "secrets": secrets,
                "run": run_statement_json(run),
                "cid": one.portable.cid,
            }
        )
        programs = ", ".join(map(program_words, run.programs))
        hosts = ", ".join(run.hosts) or "none"
        rows.append((state, until, one.url or "-", ", ".join(secrets), programs, caller_words(run.callers), hosts))
    print_rows(
        found,
        ("state", "until", "runner", "secrets", "programs", "callers", "hosts"),
        rows,
        nothing="nothing was granted to a runner from here; next: sealspace runner grant URL",
    )


def hosts_words(stated: Json) -> str:
    """Return which hosts a run contacted, as the statement of its receipt says, untrusted."""
    hosts = stated.get("hosts") if isinstance(stated, dict) else None
    return ", ".join(map(str, hosts if isinstance(hosts, list) else [])) or "nobody"
