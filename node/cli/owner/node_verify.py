"""`sealspace node verify`: check from outside whether a node runs approved code.

Example:
    sealspace node verify https://node.example --policy approved.json --collateral documents/
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import click

from capabilities.ambient import SystemClock
from encryption_network.policy import Policy
from sealspace.client import Client
from sealspace.errors import NodeEvidenceRefused
from sealspace.transport import TransportSettings

from ...term_files import read_node_policy
from ..terminal import print_lines
from .node_judging import ask_node, in_words, node_verifier
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
    "--collateral", type=click.Path(path_type=Path), help="Folder of collateral files; without it Intel is asked."
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
    settings = TransportSettings(allow_plain_http=asked.plain_http)
    async with node_verifier(trust_root=trust_root, collateral=collateral) as verifier:
        try:
            async with Client(asked.url, settings=settings) as client:
                attestation = await ask_node(client)
            now = SystemClock().now()
            facts = await verifier.examine(attestation, now=now)
            print_lines("ok       the quote is genuine, fresh, and about this node")
            print_lines(*(f"         {line}" for line in in_words(attestation.statement, facts)))
            if asked.code is None:
                print_lines("wrong    verdict: nobody said which code is approved", "         next: --policy FILE")
                return 1
            await verifier.verify(attestation, asked.accepted.policy(asked.code), now=now)
        except NodeEvidenceRefused as refused:
            print_lines(
                f"wrong    verdict: {refused.message}", *([f"         next: {refused.hint}"] if refused.hint else ())
            )
            return 1
    print_lines("ok       verdict: the node runs approved code")
    return 0
