"""`sealspace node verify`: check from outside whether a node runs approved code.

Example:
    sealspace node verify https://node.example --policy approved.json --collateral documents/
"""

import asyncio
from pathlib import Path

import click

from capabilities.ambient import SystemClock
from capabilities.strict_json import Json
from encryption_network.policy import Policy
from sealspace.cli.next_steps import next_step
from sealspace.cli.node_terms import Accepted, accepting_options
from sealspace.cli.paths import FILE, FOLDER
from sealspace.cli.term_files import read_node_policy
from sealspace.cli.terminal import print_found
from sealspace.client import Client
from sealspace.errors import NodeEvidenceRefused
from sealspace.wire.transport import TransportSettings

from .node_judging import as_json, ask_node, in_words, node_verifier


@click.command("verify")
@click.option("--policy", type=FILE, help="Which code is approved, as JSON.")
@click.option("--trust-root", type=FILE, help="Root certificate instead of Intel's.")
@click.option("--collateral", type=FOLDER, help="Folder of collateral files; without it Intel is asked.")
@accepting_options
@click.option("--plain-http", is_flag=True, help="Ask over http:// another machine than this one.")
@click.argument("url", metavar="URL")
def verify(
    policy: Path | None,
    trust_root: Path | None,
    collateral: Path | None,
    accepted: Accepted,
    plain_http: bool,
    url: str,
) -> int:
    """Ask the node at URL what code it runs, and verify the answer; ends with status 1 unless the code is approved."""
    code = None if policy is None else read_node_policy(policy)
    client = Client(url, settings=TransportSettings(allow_plain_http=plain_http))
    return asyncio.run(_verify(client, code, accepted, trust_root, collateral))


async def _verify(
    client: Client, code: Policy | None, accepted: Accepted, trust_root: Path | None, collateral: Path | None
) -> int:
    refusal: NodeEvidenceRefused | None = None
    lines: tuple[str, ...] = ()
    shown: dict[str, Json] = {}
    async with node_verifier(trust_root=trust_root, collateral=collateral) as verifier:
        try:
            async with client:
                attestation = await ask_node(client)
            now = SystemClock().now()
            facts = await verifier.examine(attestation, now=now)
            lines, shown = in_words(attestation.statement, facts), as_json(attestation.statement, facts)
            if code is None:
                raise NodeEvidenceRefused("measurement", "nobody said which code is approved", hint="--policy FILE")
            await verifier.verify(attestation, accepted.policy(code), now=now)
        except NodeEvidenceRefused as refused:
            refusal = refused
    verdict: dict[str, Json] = {"approved": refusal is None, "refused": None if refusal is None else refusal.reason}
    print_found(verdict | shown, _lines(lines, refusal))
    return 0 if refusal is None else 1


def _lines(seen: tuple[str, ...], refusal: NodeEvidenceRefused | None) -> list[str]:
    lines = ["ok       the quote is genuine, fresh, and about this node", *(f"         {line}" for line in seen)]
    if not seen:
        lines.clear()
    if refusal is None:
        return [*lines, "ok       verdict: the node runs approved code"]
    said = f"refused ({refusal.reason}): {refusal.detail}"
    return [*lines, f"wrong    verdict: {said}", f"         next: {next_step(refusal)}"]
