"""Conditions of a grant apply to every call, however a call repeats them (I39)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from attacks.parties import (
    DECRYPT,
    DELETE,
    GET,
    LIST,
    PUT,
    READ_CAPABILITIES,
    ROUTES,
    Delegate,
    Route,
    Stage,
)
from running_node import Grants, Reply, key_token, new_key, send

from capabilities.facts import ATTESTATION_FACT
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json

pytestmark = pytest.mark.slow

METADATA = "tinycloud.kv/metadata"
VALUES = {
    "public.txt": b"for all",
    "public.txt/below": b"x",
    "public.txt2": b"x",
    "secret.txt": b"for the owner",
}
NOT_MET = (401, "invocation-caveats-not-subset-of-chain: selector-caveat-not-met")
NOT_UNDERSTOOD = (401, "invocation-caveats-not-subset-of-chain: caveat-not-understood")
Conditions = Sequence[Mapping[str, Json]]


def selector(kind: str, value: str) -> Conditions:
    """Return a condition that selects a part of a grant's resources."""
    return [{"type": "xyz.tinycloud.resource/selector", "kind": kind, "value": value}]


@dataclass(frozen=True)
class Conditioned:
    """A delegate who has all of a space's values under conditions, and repeats them in each call.

    The owner is a key: between two delegations a selector is taken only where the upper one has it
    too (3.5), and a wallet's has none (S5).
    """

    stage: Stage
    owner: Ed25519Signer
    delegate: Delegate
    conditions: Conditions

    @classmethod
    async def by(cls, stage: Stage, conditions: Conditions) -> "Conditioned":
        """Return a delegate whose grant is by a new owner."""
        held = cls(stage, new_key(), Delegate(), conditions)
        for path, value in VALUES.items():
            reply = await stage.invoke(held.owner, {f"{held.space}/kv/{path}": [PUT]}, body=value)
            assert reply.status == 200, reply.said
        grants = {f"{held.space}/kv": [GET, METADATA, LIST, PUT, DELETE]}
        held.delegate.proofs.append(await held.grant(grants, conditions))
        return held

    @property
    def space(self) -> str:
        """Id of the owner's space."""
        return f"tinycloud:{self.owner.did.removeprefix('did:')}:default"

    async def grant(self, grants: Grants, conditions: Conditions = ({},)) -> str:
        """Have the owner delegate to the delegate."""
        token = key_token(self.owner, self.delegate.did, grants, ttl_s=600, caveats=conditions)
        return await self.stage.register(token)

    async def ask(
        self, ability: str, path: str | None, *, route: str = "/invoke", body: bytes | None = None
    ) -> Reply:
        """Invoke one ability on one path, or on all values."""
        resource = f"{self.space}/kv" + ("" if path is None else f"/{path}")
        signer = self.delegate.signer
        token = key_token(
            signer,
            signer.did,
            {resource: [ability]},
            proofs=self.delegate.proofs,
            caveats=self.conditions,
        )
        return await send(self.stage.url, "POST", route, token=token, body=body)

    async def value(self, path: str) -> bytes:
        """Return the stored value."""
        return (await self.stage.invoke(self.owner, {f"{self.space}/kv/{path}": [GET]})).body


async def test_a_repeated_selector_restricts(stage: Stage) -> None:
    """A grant with a selector of one value reads only that value."""
    held = await Conditioned.by(stage, selector("exact", "public.txt"))
    assert (await held.ask(GET, "public.txt")).body == b"for all"
    for ability in (GET, METADATA, PUT, DELETE, LIST):
        for path in ("secret.txt", "public.txt/below", "public.txt2", ""):
            assert (
                await held.ask(ability, path, body=b"x" if ability == PUT else None)
            ).said == NOT_MET
    assert await held.value("secret.txt") == b"for the owner"


async def test_a_selector_restricts_signed_urls(stage: Stage) -> None:
    """A grant with a selector makes signed URLs only for the selected value."""
    held = await Conditioned.by(stage, selector("exact", "public.txt"))
    for asked, resource, expected in (
        ("public.txt", "public.txt", (200, None)),
        ("secret.txt", "secret.txt", NOT_MET),
        ("secret.txt", None, NOT_MET),
        ("public.txt/below", "public.txt", (403, "signed URL scope is not authorized")),
    ):
        body = json.dumps({"space": held.space, "path": asked}).encode()
        reply = await held.ask(GET, resource, route="/signed/kv", body=body)
        assert reply.status == expected[0], (asked, resource, reply.said)
        assert expected[1] is None or reply.text == expected[1]


@pytest.mark.parametrize(
    ("conditions", "path", "listed"),
    [
        (selector("exact", "public.txt"), "public.txt", ["public.txt"]),
        (selector("prefix", "public.txt"), "public.txt", ["public.txt", "public.txt/below"]),
        (selector("prefix", "public.txt/"), "public.txt/", ["public.txt/below"]),
    ],
)
async def test_a_selector_restricts_lists(
    stage: Stage, conditions: Conditions, path: str, listed: list[str]
) -> None:
    """A list under a selector contains only the selected values."""
    held = await Conditioned.by(stage, conditions)
    reply = await held.ask(LIST, path)
    assert (reply.status, json.loads(reply.body)) == (200, listed)


async def test_a_selector_widens_no_list(stage: Stage) -> None:
    """A selector in a call does not widen a grant of one path."""
    held = await Conditioned.by(stage, selector("exact", "elsewhere"))
    resource = f"{held.space}/kv/public.txt"
    wide = selector("prefix", f"{held.space}/kv")
    for conditions in (({},), wide):
        proofs = [await held.grant({resource: [LIST]}, conditions)]
        reply = await stage.invoke(
            held.delegate.signer, {resource: [LIST]}, proofs=proofs, caveats=wide
        )
        assert (reply.status, json.loads(reply.body)) == (200, ["public.txt", "public.txt/below"])


async def test_a_wider_conditioned_grant_adds_nothing_to_a_list(stage: Stage) -> None:
    """A second grant under a selector adds nothing to a list."""
    held = await Conditioned.by(stage, selector("exact", "elsewhere"))
    resource = f"{held.space}/kv/public.txt"
    proofs = [await held.grant({resource: [LIST]}), *held.delegate.proofs]
    reply = await stage.invoke(held.delegate.signer, {resource: [LIST]}, proofs=proofs)
    assert (reply.status, json.loads(reply.body)) == (200, ["public.txt", "public.txt/below"])


@pytest.mark.parametrize("ability", [GET, METADATA, LIST, PUT, DELETE])
async def test_what_nobody_understands_is_not_run(stage: Stage, ability: str) -> None:
    """The node refuses a call under an unknown condition."""
    held = await Conditioned.by(stage, [{"onlyOn": "Sundays"}])
    assert (
        await held.ask(ability, "public.txt", body=b"x" if ability == PUT else None)
    ).said == NOT_UNDERSTOOD
    assert await held.value("public.txt") == b"for all"


@pytest.mark.parametrize("conditions", [[{"onlyOn": "Sundays"}], selector("exact", "another")])
@pytest.mark.parametrize("route", ROUTES)
async def test_no_key_under_an_unmet_condition(
    stage: Stage, route: Route, conditions: Conditions
) -> None:
    """The owner's session gets no key under an unmet condition."""
    owner = await stage.owner()
    session = owner.session
    request = stage.decrypt(session, owner, caveats=conditions)
    reply = await stage.send_decrypt(request, route)
    assert reply.status == (401 if route == "route" else 403), reply.said
    assert reply.text.startswith("invocation-caveats-not-subset-of-chain: ")
    assert (await stage.ask(session, owner, route)).status == 200


async def test_capabilities_are_not_read_under_a_condition(stage: Stage) -> None:
    """Reading grants under an unknown condition is refused."""
    owner = await stage.owner()
    session = owner.session
    resource = f"{owner.space()}/capabilities/all"
    token = key_token(
        session.signer,
        session.did,
        {resource: [READ_CAPABILITIES]},
        proofs=session.proofs,
        caveats=[{"only": 1}],
    )
    assert (await send(stage.url, "POST", "/invoke", token=token)).said == NOT_UNDERSTOOD


@pytest.mark.parametrize(
    "fact",
    [
        {"Sealspace.Attestation/v1": {"measurements": []}},
        [{ATTESTATION_FACT: {"maxAgeSeconds": 1}}],
        {"conditions": [{ATTESTATION_FACT: {"maxAgeSeconds": 1}}]},
        {ATTESTATION_FACT.upper(): {}},
    ],
)
async def test_a_policy_that_nobody_would_read_is_refused(stage: Stage, fact: Json) -> None:
    """A delegation with a misspelt policy is refused (RL8)."""
    owner, delegate = await stage.owner(), Delegate()
    session = owner.session
    token = key_token(
        session.signer,
        delegate.did,
        {owner.network: [DECRYPT]},
        proofs=session.proofs,
        facts=[fact],
    )
    reply = await stage.post("/delegate", token)
    assert (reply.status, reply.text.split(":")[0]) == (400, "invalid attestation policy")
    delegate.proofs = [token]
    assert (await stage.ask(delegate, owner)).said == (401, "Cannot find parent delegation")
