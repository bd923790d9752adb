"""`sealspace node verify`: check from outside whether a node runs approved code.

Example:
    sealspace node verify https://node.example --policy approved.json --collateral documents/
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import click

from capabilities.ambient import SystemClock
from capabilities.strict_json import Json
from encryption_network.policy import Policy
from sealspace.client import Client
from sealspace.errors import NodeEvidenceRefused
from sealspace.transport import TransportSettings

from ...term_files import read_node_policy
from ..next_steps import next_step
from ..shared import shared
from ..terminal import print_json, print_lines
from .node_judging import as_json, ask_node, in_words, node_verifier
from .node_terms import Accepted, accepting_options


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParameters:
    """The parameters of a call.

    Attributes:
        url: address of the node.
        code: approved code; None: not stated.
        accepted: what is accepted in addition to the strict terms.
        plain_http: use unencrypted HTTP even to another machine.
    """

    url: str
    code: Policy | None
    accepted: Accepted
    plain_http: bool


@click.command("verify")
@click.option("--policy", type=click.Path(path_type=Path), help="Which code is approved, as JSON.")
@click.option("--trust-root", type=click.Path(path_type=Path), help="Root certificate instead of Intel's.")
@click.option(
    "--collateral",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of collateral files; without it Intel is asked.",
)
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
    asked = RequestParameters(url=url, code=code, accepted=accepted, plain_http=plain_http)
    return asyncio.run(_verify(asked, trust_root, collateral))


async def _verify(asked: RequestParameters, trust_root: Path | None, collateral: Path | None) -> int:
    settings, refusal = TransportSettings(allow_plain_http=asked.plain_http), None
    lines: tuple[str, ...] = ()
    shown: dict[str, Json] = {}
    async with node_verifier(trust_root=trust_root, collateral=collateral) as verifier:
        try:
            async with Client(asked.url, settings=settings) as client:
                attestation = await ask_node(client)
            now = SystemClock().now()
            facts = await verifier.examine(attestation, now=now)
            lines, shown = in_words(attestation.statement, facts), as_json(attestation.statement, facts)
            if asked.code is None:
                raise NodeEvidenceRefused("measurement", "nobody said which code is approved", hint="--policy FILE")
            await verifier.verify(attestation, asked.accepted.policy(asked.code), now=now)
        except NodeEvidenceRefused as refused:
            refusal = refused
    if shared().as_json:
        verdict: dict[str, Json] = {"approved": refusal is None, "refused": None if refusal is None else refusal.reason}
        print_json(verdict | shown)
    else:
        _print(lines, refusal)
    return 0 if refusal is None else 1


def _print(seen: tuple[str, ...], refusal: NodeEvidenceRefused | None) -> None:
    if seen:
        print_lines("ok       the quote is genuine, fresh, and about this node", *(f"         {line}" for line in seen))
    if refusal is None:
        print_lines("ok       verdict: the node runs approved code")
    else:
        said = f"refused ({refusal.reason}): {refusal.detail}"
        print_lines(f"wrong    verdict: {said}", f"         next: {next_step(refusal)}")
