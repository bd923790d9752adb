"""Chains of delegations: valid ones, and ones that are broken in one way each."""

import asyncio
from collections.abc import Mapping
from typing import Any

from sealspace_conformance.expectations import data, members, text
from sealspace_conformance.keys import Key, new_key
from sealspace_conformance.run import Owner, Run, fresh_name
from sealspace_conformance.tokens import Token, plain

UNKNOWN_PARENT = "Cannot find parent delegation"
GET = "tinycloud.kv/get"
LIST = "tinycloud.kv/list"
PUT = "tinycloud.kv/put"
SELECTOR = "xyz.tinycloud.resource/selector"
TERMINAL = {"xyz.tinycloud.policy/delegationMode": "terminal"}
_MOST_KEYS = 64


def selector(kind: str, value: str) -> dict[str, Any]:
    """Return a caveat on the resource."""
    return {"type": SELECTOR, "kind": kind, "value": value}


class Chain:
    """The owner's session, a recipient with a grant of it, and a key that has nothing."""

    def __init__(self, run: Run, owner: Owner) -> None:
        self.run = run
        self.owner = owner
        self.folder = fresh_name()
        self.bob = new_key()
        self.carol = new_key()
        self.mallory = new_key()
        self.to_bob = run.grant(
            owner.session,
            self.bob,
            {self.kv("shared"): plain(GET, LIST)},
            proofs=[owner.sign_in],
        )

    def kv(self, path: str) -> str:
        """Return a resource below the folder of this chain."""
        return f"{self.owner.space()}/kv/{self.folder}/{path}"

    async def register(self) -> None:
        """Store a value at `shared/x` and register the recipient's grant."""
        value = self.run.kv_call("put", f"{self.folder}/shared/x")
        await self.run.prepare("a value", value, body=b"for Bob")
        await self.run.prepare("a grant", self.to_bob)

    def get(self, signer: Key, *proofs: Token | str, path: str = "shared/x") -> Token:
        """Return a call that reads a value."""
        return self.run.call(signer, {self.kv(path): plain(GET)}, proofs=proofs)

    def passed_on(self, grants: Mapping[str, Any], **changes: Any) -> Token:
        """Return the recipient's grant to a third key."""
        contents: dict[str, Any] = {"proofs": [self.to_bob], "lifetime_s": 300, **changes}
        signer = contents.pop("signer", self.bob)
        return self.run.grant(signer, self.carol, grants, **contents)


async def delegations(run: Run) -> None:
    """Check which delegations are registered."""
    owner = run.hosted_owner()
    chain = Chain(run, owner)
    await chain.register()
    await _valid(run, chain)
    await _parents(run, chain)
    await _windows(run, chain)
    await _rights(run, chain)
    await _caveats(run, chain)


async def _valid(run: Run, chain: Chain) -> None:
    narrower = chain.passed_on({chain.kv("shared/x"): plain(GET)})
    await run.delegate("D7", "a narrower grant passed on", members({"cid": narrower.cid}), narrower)
    await run.invoke("D28", "use it", data(b"for Bob"), chain.get(chain.carol, narrower))
    same = chain.passed_on({chain.kv("shared"): plain(GET, LIST)}, lifetime_s=500)
    await run.delegate("D27", "the same rights passed on", members({"cid": same.cid}), same)


async def _parents(run: Run, chain: Chain) -> None:
    grants = {chain.kv("shared"): plain(GET)}
    missing = text(401, UNKNOWN_PARENT)
    unregistered = run.grant(chain.owner.session, chain.bob, grants, proofs=[chain.owner.sign_in])
    for rule, asked, changes in (
        ("D21", "a grant that cites nothing", {"proofs": []}),
        ("D22", "a grant below one that was never posted", {"proofs": [unregistered]}),
        ("Q26", "a grant that cites its parent twice", {"proofs": [chain.to_bob, chain.to_bob]}),
        (
            "D22",
            "a grant with one known and one unknown parent",
            {"proofs": [chain.to_bob, unregistered]},
        ),
    ):
        await run.delegate(rule, asked, missing, chain.passed_on(grants, **changes))
    await run.delegate(
        "D22",
        "a grant below one to somebody else",
        text(401, f"Unauthorized Delegator: {chain.mallory.did}"),
        chain.passed_on(grants, signer=chain.mallory),
    )
    terminal = run.grant(
        chain.owner.session,
        chain.bob,
        {chain.kv("terminal"): plain(GET)},
        proofs=[chain.owner.sign_in],
        facts=[TERMINAL],
    )
    await run.prepare("a terminal grant", terminal)
    await run.delegate(
        "D24",
        "a grant below a terminal one",
        text(401, "terminal-parent-cannot-redelegate"),
        chain.passed_on({chain.kv("terminal"): plain(GET)}, proofs=[terminal]),
    )


async def _windows(run: Run, chain: Chain) -> None:
    grants = {chain.kv("shared"): plain(GET)}
    await run.delegate(
        "D25",
        "a grant that outlives its parent",
        text(401, "Child delegation expiry exceeds parent expiry"),
        chain.passed_on(grants, lifetime_s=3000),
    )
    begun = run.now() - 30
    later = run.grant(
        chain.owner.session,
        chain.bob,
        {chain.kv("later"): plain(GET)},
        proofs=[chain.owner.sign_in],
        not_before=begun,
    )
    await run.prepare("a grant with a beginning", later)
    precedes = text(401, "Child delegation not_before precedes parent not_before")
    wanted = {chain.kv("later"): plain(GET)}
    await run.delegate(
        "D25",
        "a grant that begins before its parent",
        precedes,
        chain.passed_on(wanted, proofs=[later], not_before=begun - 1),
    )
    await run.delegate(
        "D25",
        "a grant without a beginning below one with a beginning",
        precedes,
        chain.passed_on(wanted, proofs=[later]),
    )
    fitting = chain.passed_on(wanted, proofs=[later], not_before=begun)
    await run.delegate(
        "D25", "a grant that begins with its parent", members({"cid": fitting.cid}), fitting
    )
    ended = chain.passed_on(grants, lifetime_s=-5)
    await run.delegate(
        "D6", "a grant that has ended", text(401, "Delegation expired or not yet valid"), ended
    )


async def _rights(run: Run, chain: Chain) -> None:
    folder = f"{chain.owner.space()}/kv/{chain.folder}"
    other_space = f"{chain.owner.space('secrets')}/kv/{chain.folder}/shared"
    for asked, resource, ability in (
        ("a wider path", folder, GET),
        ("a neighbouring path", chain.kv("shared2"), GET),
        ("no path at all", f"{chain.owner.space()}/kv", GET),
        ("another ability", chain.kv("shared"), PUT),
        ("an ability that looks like all", chain.kv("shared"), "tinycloud.kv/*"),
        ("another space", other_space, GET),
        ("another service", f"{chain.owner.space()}/sql/{chain.folder}/shared", GET),
    ):
        await run.delegate(
            "D27",
            f"a grant of {asked}",
            text(401, f"Unauthorized Capability: {resource}, {ability}"),
            chain.passed_on({resource: plain(ability)}),
        )
    both = {chain.kv("shared/x"): plain(GET), chain.kv("shared/y"): plain(PUT)}
    await run.delegate(
        "D27",
        "a grant of two rights of which one is held",
        text(401, f"Unauthorized Capability: {chain.kv('shared/y')}, {PUT}"),
        chain.passed_on(both),
    )
    root = chain.passed_on({"urn:conformance:nobody": plain(GET)}, proofs=[])
    await run.delegate(
        "R3", "a grant of a resource without a root", text(401, UNKNOWN_PARENT), root
    )


async def _caveats(run: Run, chain: Chain) -> None:
    # A wallet's grant has no caveats (S5), and a selector is contained in a selector only. So the
    # first one is stated by an owner with a key.
    root = new_key()
    some = f"tinycloud:{root.did.removeprefix('did:')}:default/kv/some"
    parent = run.grant(
        root, chain.bob, {some: {GET: [selector("prefix", f"{some}/part")]}}, proofs=[]
    )
    await run.prepare("a grant with a selector", parent)
    narrower = {some: {GET: [selector("exact", f"{some}/part/x")]}}
    below = chain.passed_on(narrower, proofs=[parent])
    await run.delegate(
        "3.5", "a grant with a narrower selector", members({"cid": below.cid}), below
    )
    refused = text(401, "child-caveats-not-subset-of-parent: selector-caveat-not-contained")
    for asked, caveats in (
        ("a selector beside its parent's", [selector("prefix", f"{some}/other")]),
        ("a selector wider than its parent's", [selector("prefix", some)]),
        ("no selector below one", [{}]),
    ):
        token = chain.passed_on({some: {GET: caveats}}, proofs=[parent])
        await run.delegate("3.5", f"a grant with {asked}", refused, token)
    prefix = {some: {GET: [selector("prefix", f"{some}/part/x")]}}
    widened = chain.passed_on(prefix, proofs=[below], signer=chain.carol, lifetime_s=200)
    await run.delegate("3.5", "a prefix below an exact selector", refused, widened)


async def long_chains(run: Run) -> None:
    """Check the bound of 64 delegations in one chain."""
    owner = run.hosted_owner()
    resource = {f"{owner.space()}/kv/{fresh_name()}": plain(GET)}
    parent = owner.sign_in
    signer = owner.session
    # Each grant ends before its parent, however long the posts take.
    lifetime_s = 3000
    for _ in range(_MOST_KEYS - 1):
        recipient = new_key()
        lifetime_s -= 30
        parent = run.grant(signer, recipient, resource, proofs=[parent], lifetime_s=lifetime_s)
        await run.prepare("a grant in a long chain", parent)
        signer = recipient
    last = run.grant(signer, new_key(), resource, proofs=[parent], lifetime_s=500)
    await run.delegate(
        "D30",
        "a chain of 65 delegations",
        text(401, "delegation-chain-traversal-limit-exceeded"),
        last,
    )


async def ends(run: Run) -> None:
    """Check that a grant ends at its end; waits for it."""
    owner = run.hosted_owner()
    chain = Chain(run, owner)
    await chain.register()
    short = run.grant(
        owner.session,
        chain.carol,
        {chain.kv("shared"): plain(GET)},
        proofs=[owner.sign_in],
        lifetime_s=1.5,
    )
    await run.prepare("a grant that ends soon", short)
    await asyncio.sleep(2)
    refusal = text(401, f"Unauthorized Action: {chain.kv('shared/x')} / {GET}")
    await run.invoke("Q17", "use a grant that has ended", refusal, chain.get(chain.carol, short))
    await run.delegate(
        "Q6",
        "post a grant again that has ended",
        text(401, "Delegation expired or not yet valid"),
        short,
    )
