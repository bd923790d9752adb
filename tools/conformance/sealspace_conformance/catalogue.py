"""The groups of checks in the order in which they run, and a run of them."""

from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from typing import TextIO

from sealspace_conformance.groups.accepted_evidence import accepted_evidence
from sealspace_conformance.groups.attestation import attestation
from sealspace_conformance.groups.delegations import delegations, ends, long_chains
from sealspace_conformance.groups.discovery import NODE, discovery
from sealspace_conformance.groups.forms import forms
from sealspace_conformance.groups.invocations import (
    calls,
    conditions,
    owners_with_a_key,
    rights,
)
from sealspace_conformance.groups.keys_on_request import key_requests, releases
from sealspace_conformance.groups.kinds import kinds
from sealspace_conformance.groups.machines import exchanges, machine_tokens
from sealspace_conformance.groups.networks import networks
from sealspace_conformance.groups.owned_rules import policies, receipts, withdrawals
from sealspace_conformance.groups.revocations import accounts, more_revocations, revocations
from sealspace_conformance.groups.rotation import rotation
from sealspace_conformance.groups.services import sharing, sql
from sealspace_conformance.groups.sign_in import sign_in
from sealspace_conformance.groups.tasks import tasks
from sealspace_conformance.groups.values import batches, listings, signed_urls, spaces, values
from sealspace_conformance.groups.vectors import vectors
from sealspace_conformance.quotes import Authority
from sealspace_conformance.report import FAILED
from sealspace_conformance.run import Blocked, Run, Silent, Unsuitable
from sealspace_conformance.transport import TIMEOUT_S, node_at

Group = Callable[[Run], Awaitable[None]]

GROUPS: dict[str, Group] = {
    "discovery": discovery,
    "sign-in": sign_in,
    "vectors": vectors,
    "forms": forms,
    "values": values,
    "listings": listings,
    "batches": batches,
    "spaces": spaces,
    "signed-urls": signed_urls,
    "delegations": delegations,
    "long-chains": long_chains,
    "calls": calls,
    "rights": rights,
    "conditions": conditions,
    "owners-with-a-key": owners_with_a_key,
    "ends": ends,
    "revocations": revocations,
    "more-revocations": more_revocations,
    "accounts": accounts,
    "networks": networks,
    "key-requests": key_requests,
    "releases": releases,
    "attestation": attestation,
    "accepted-evidence": accepted_evidence,
    "kinds": kinds,
    "policies": policies,
    "receipts": receipts,
    "withdrawals": withdrawals,
    "rotation": rotation,
    "machine-tokens": machine_tokens,
    "exchanges": exchanges,
    "sharing": sharing,
    "sql": sql,
    "tasks": tasks,
}

NEEDED = {
    "key-requests": ("networks",),
    "releases": ("networks",),
    "attestation": ("networks",),
    "accepted-evidence": ("networks",),
    "receipts": ("networks",),
    "withdrawals": ("networks",),
    "machine-tokens": ("networks",),
    "exchanges": ("networks",),
}
"""Groups on which others rest; a sign-in comes before all of them."""


async def run_groups(
    url: str,
    *,
    only: Collection[str] = (),
    timeout_s: float = TIMEOUT_S,
    record: TextIO | None = None,
    authority: Authority | None = None,
    runner: str = "",
) -> tuple[Run, bool]:
    """Run groups against a node.

    Args:
        url: the node's address.
        only: the names of groups; empty: all of them.
        timeout_s: the time for one answer.
        record: is written a line of JSON for each exchange.
        authority: signs quotes that the node accepts.
        runner: the address of a runner that uses the node.

    Returns:
        The run, and whether a node answered at all.
    """
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(node_at(url, timeout_s=timeout_s))
        node.record = record
        run = Run(node, authority=authority)
        if runner:
            run.runner = await stack.enter_async_context(node_at(runner, timeout_s=timeout_s))
            run.runner.record = record
        run.group = "contact"
        answer = await node.send("GET", "/info")
        run.judge("J1", "GET /info", NODE, answer)
        if answer.failure or NODE.difference(answer):
            return run, False
        run.info = answer.object
        run.did = str(run.info["nodeId"])
        run.set_clock(answer)
        try:
            for name in _wanted(only):
                run.group = name
                await _run_group(run, GROUPS[name])
        except Silent:
            run.add("", "further requests", "answers", "the node stopped answering", FAILED)
        return run, True


def _wanted(only: Collection[str]) -> list[str]:
    if not only:
        return list(GROUPS)
    names = {"sign-in", *only}
    for name in only:
        names.update(NEEDED.get(name, ()))
    return [name for name in GROUPS if name in names]


async def _run_group(run: Run, group: Group) -> None:
    try:
        await group(run)
    except Blocked as reason:
        run.add("", "the rest of this group", "can be asked", f"not asked: {reason}", FAILED)
    except Unsuitable as reason:
        run.not_applicable("", "the whole group", str(reason))
    except Silent:
        raise
    except Exception as error:  # an answer of a form that no check foresaw
        unjudged = f"an answer could not be judged: {type(error).__name__}"
        run.add("", "the rest of this group", "can be judged", unjudged, FAILED)
