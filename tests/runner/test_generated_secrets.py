"""Secrets that a runner generates, and attacks on them (RN140 to RN151)."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from runner_stage import ENVIRONMENT, RunnerStage, runner_stage

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from encryption_network.policy import Policy
from runner.calls.generated_secrets import verify_generated
from sealspace.apps.backends import deliver, policy_for, require_like
from sealspace.apps.run_calls import call_headers
from sealspace.delegations import allow
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.generation_grants import GENERATE, generation_body
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.encryption import envelope_bytes
from sealspace.errors import (
    BackendNotExpected,
    BackendUnreachable,
    DecryptDenied,
    GrantNotTaken,
    InvalidInput,
    InvalidSecretName,
    StatementInvalid,
)
from sealspace.secrets import PROTECTED_NETWORK, Generated, Secret
from sealspace.session import Session, key_session
from sealspace.wire.portable import PortableDelegation
from tee_backend.cli.provided_receipts import startup_evidence

ANYBODY = AllowAll()
PUT, GET, DECRYPT = "tinycloud.kv/put", "tinycloud.kv/get", "tinycloud.encryption/decrypt"
SET_POLICY = "sealspace.encryption/policy"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner, whose owner had a secret generated."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"))
        seen = await staged.look()
        made = await staged.owner.runners.generate(
            seen, {"PROTECTED_KEY": "hex32"}, wallet=staged.wallet
        )
        assert made.generated == ("PROTECTED_KEY",)
        assert made.existing == ()
        assert made.code is None
        yield staged


def distinct(name: str) -> str:
    return ENVIRONMENT.replace('"memory") 16)', f'"memory") 16) (data (i32.const 1024) "{name}")')


async def run(
    stage: RunnerStage, name: str, secret: str, *, profile: str = "default"
) -> tuple[int, dict[str, Any]]:
    """Publish a program, grant it a secret, and have it print its environment."""
    version = await stage.publish(name, distinct(name))
    await stage.grant([secret], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY))
    return await stage.call(name, secrets=stage.developer, profile=profile)


def variables(answer: dict[str, Any]) -> dict[str, str]:
    assert answer["status"] == "completed", answer
    return dict(one.split("=", 1) for one in answer["output"].split("\0") if one)


async def asked(
    stage: RunnerStage, body: bytes, *, session: Session | None = None
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Send a generation request with a token of the owner's or another session's."""
    session = session or await stage.calling_session()
    now, entropy = SystemClock().now(), SystemEntropy()
    headers = call_headers(
        session, runner=stage.at, program=GENERATE, body=body, now=now, entropy=entropy
    )
    return *(await posted(stage, body, headers)), headers


async def posted(
    stage: RunnerStage, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    async with stage.http.post(
        f"{stage.url}/secrets/generate", data=body, headers=headers
    ) as answer:
        return answer.status, json.loads(await answer.read())


async def granted(stage: RunnerStage, *names: str, ability: str = PUT) -> PortableDelegation:
    """Grant the runner to write secrets, and deliver the grant."""
    wanted = [allow(stage.owner.secrets().resource(name), ability) for name in names]
    portable = await stage.owner.delegations.delegate(
        stage.runner.did, wanted, wallet=stage.wallet, ttl_s=600
    )
    await deliver(stage.url, portable)
    return portable


def body_for(stage: RunnerStage, **wanted: str) -> bytes:
    return json.dumps(generation_body(stage.developer, None, wanted)).encode()


def code(answered: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answered[0], answered[1]["error"]["code"]


async def opened(stage: RunnerStage, name: str) -> Secret:
    """Open a generated secret as an owner who lifts the network's policy for it."""
    network = stage.owner.encryption.network(PROTECTED_NETWORK)
    rights = [allow(network.text, one) for one in (DECRYPT, SET_POLICY)]
    await stage.owner.delegations.add_right(stage.wallet, rights)
    await stage.owner.encryption.set_policy(network, None)
    try:
        return await stage.owner.secrets().read(name)
    finally:
        await stage.owner.encryption.set_policy(network, Policy(in_person=False))


# --- what is made ---------------------------------------------------------------------------------


async def test_a_generated_secret_reaches_a_program_and_nobody_else(stage: RunnerStage) -> None:
    """RN140, RN144: a program gets a generated value that its owner cannot open in person."""
    _, answer = await run(stage, "generated", "PROTECTED_KEY")
    assert re.fullmatch("[0-9a-f]{64}", variables(answer)["PROTECTED_KEY"])
    network = stage.owner.encryption.network(PROTECTED_NETWORK)
    await stage.owner.delegations.add_right(stage.wallet, [allow(network.text, DECRYPT)])
    with pytest.raises(DecryptDenied):
        await stage.owner.secrets().get("PROTECTED_KEY")


async def test_what_is_there_is_not_replaced(stage: RunnerStage) -> None:
    """RN145: a second request keeps an existing secret and generates the missing one."""
    before = await stage.owner.secrets().version("PROTECTED_KEY")
    wanted = {"PROTECTED_KEY": "hex32", "PROTECTED_NEW": "password:8"}
    made = await stage.owner.runners.generate(await stage.look(), wanted, wallet=stage.wallet)
    assert made.generated == ("PROTECTED_NEW",)
    assert made.existing == ("PROTECTED_KEY",)
    assert await stage.owner.secrets().version("PROTECTED_KEY") == before


async def test_a_profile_and_another_secret_beside_it(stage: RunnerStage) -> None:
    """RN146: a run has generated and other secrets by one grant for each network."""
    seen = await stage.look()
    made = await stage.owner.runners.generate(
        seen, {"PROTECTED_PIN": "password"}, scope="Prod", wallet=stage.wallet
    )
    assert made.generated == ("PROTECTED_PIN",)
    await stage.owner.secrets().put("API_KEY", "open sesame", scope="prod")
    version = await stage.publish("both", distinct("both"))
    statement = RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    with pytest.raises(InvalidInput, match="different networks"):
        await stage.grant(["prod/API_KEY", "prod/PROTECTED_PIN"], statement)
    await stage.grant(["prod/API_KEY"], statement)
    await stage.grant(["prod/PROTECTED_PIN"], statement)
    seen_by_program = variables(
        (await stage.call("both", secrets=stage.developer, profile="prod"))[1]
    )
    assert seen_by_program["API_KEY"] == "open sesame"
    assert re.fullmatch("[A-Za-z0-9]{32}", seen_by_program["PROTECTED_PIN"])


async def test_the_owner_may_lift_the_policy_and_a_receipt_shows_it(stage: RunnerStage) -> None:
    """RN150: an owner may open a value, and the release is recorded."""
    network = stage.owner.encryption.network(PROTECTED_NETWORK)
    await stage.owner.delegations.add_right(
        stage.wallet, [allow(network.text, "sealspace.encryption/receipts")]
    )
    before = [one async for one in stage.owner.receipts.all(network)]
    secret = await opened(stage, "PROTECTED_KEY")
    assert (
        secret.generated is not None
        and secret.generated.type == "hex32"
        and len(secret.generated.tag) == 32
    )
    after = [one async for one in stage.owner.receipts.all(network)]
    assert len(after) == len(before) + 1
    with pytest.raises(InvalidInput, match="lets people decrypt"):
        await stage.owner.encryption.set_policy(network, Policy(max_age_s=3600))
        await stage.owner.runners.generate(
            await stage.look(), {"PROTECTED_X": "hex16"}, wallet=stage.wallet
        )
    await stage.owner.encryption.set_policy(network, Policy(in_person=False))


class Cancelling(SystemEntropy):
    """An entropy source that cancels the task at the second value, like a crash between writes."""

    def __init__(self) -> None:
        self.draws = -1

    def token(self, size_bytes: int) -> bytes:
        if self.draws >= 0:
            self.draws += 1
            if self.draws == 2:
                raise asyncio.CancelledError
        return super().token(size_bytes)


async def test_a_runner_that_ends_between_two_writes(stage: RunnerStage, tmp_path: Path) -> None:
    """RN151: after a crash the next request makes only the missing secret."""
    wanted, entropy = {"PROTECTED_A": "hex16", "PROTECTED_B": "hex16"}, Cancelling()
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", entropy=entropy)
        entropy.draws = 0
        with pytest.raises(BackendUnreachable):
            await stage.owner.runners.generate(await runner.look(), wanted, wallet=stage.wallet)
    assert [one for one in await stage.owner.secrets().list() if one in wanted] == ["PROTECTED_A"]
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        made = await stage.owner.runners.generate(await runner.look(), wanted, wallet=stage.wallet)
        assert made.generated == ("PROTECTED_B",)
        assert made.existing == ("PROTECTED_A",)
    _, answer = await run(stage, "halves", "PROTECTED_A")
    assert len(variables(answer)["PROTECTED_A"]) == 32


# --- what is delivered ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tried", ["by hand", "no tag", "another value", "another path", "another time"]
)
async def test_what_was_not_made_here_is_not_delivered(stage: RunnerStage, tried: str) -> None:
    """RN148: a value written or copied by the owner is not given to a run."""
    name = f"PROTECTED_{tried.replace(' ', '_').upper()}"
    secret = await opened(stage, "PROTECTED_KEY")
    assert secret.generated is not None and isinstance(secret.value, str)
    value, generated, kept = secret.value, secret.generated, b""
    secrets = stage.owner.secrets(network=PROTECTED_NETWORK)
    place = secrets.resource(name).rpartition("/kv/")[2]
    if tried == "no tag":
        payload = json.dumps({"value": value, "createdAt": "", "updatedAt": ""}).encode()
        sealed = await stage.owner.encryption.encrypt(
            payload, network=stage.owner.encryption.network("protected")
        )
        await stage.owner.kv("secrets").put(place, envelope_bytes(sealed))
    elif tried == "by hand":
        await secrets.put_generated(name, value, Generated("hex32", generated.at, bytes(32)))
    elif tried == "another path":
        await secrets.put_generated(name, value, generated)
    else:
        kept = (await stage.owner.kv("secrets").get("vault/secrets/PROTECTED_KEY")).body
        await stage.owner.secrets().delete("PROTECTED_KEY")
        name = "PROTECTED_KEY"
        changed = (
            (value[::-1], generated)
            if tried == "another value"
            else (value, replace(generated, at="2020"))
        )
        await secrets.put_generated(name, *changed)
    program = tried.replace(" ", "-")
    answered, session = await run(stage, program, name), await stage.calling_session()
    by_owner = await stage.call(program, session=session, secrets=stage.developer)
    if name == "PROTECTED_KEY":
        await stage.owner.kv("secrets").put("vault/secrets/PROTECTED_KEY", kept)
    assert code(answered) == (403, "secret-not-generated")
    assert "detail" not in answered[1]["error"]
    cause = "stored by hand" if tried == "no tag" else "changed, or made for another path or runner"
    assert by_owner[1]["error"]["detail"] == f"{name}: {cause}"  # for the owner in person
    assert value not in json.dumps(answered[1]) and name not in json.dumps(answered[1])


# --- who may ask, and for what --------------------------------------------------------------------


async def test_names_are_not_written_by_hand(stage: RunnerStage) -> None:
    """RN140: the SDK encrypts nothing under a `PROTECTED_` name."""
    with pytest.raises(InvalidSecretName, match="only a runner"):
        await stage.owner.secrets().put("PROTECTED_MINE", "mine")
    with pytest.raises(InvalidSecretName, match="only a runner"):
        await stage.owner.secrets().put_many({"FINE": "x", "PROTECTED_MINE": "mine"}, scope="prod")
    assert "FINE" not in await stage.owner.secrets().list(scope="prod")


async def test_the_owner_alone_asks_and_once(stage: RunnerStage) -> None:
    """RN142: a generation request needs a token of the owner, which is accepted once."""
    body = body_for(stage, PROTECTED_ONCE="hex16")
    await granted(stage, "PROTECTED_ONCE")
    status, answer, _ = await asked(stage, body, session=key_session(bytes(31) + b"x"))
    assert code((status, answer)) == (403, "access-denied")
    assert code(await posted(stage, body, {})) == (401, "call-refused")
    status, answer, headers = await asked(stage, body)
    assert (status, answer["generated"]) == (200, ["PROTECTED_ONCE"])
    assert code(await posted(stage, body, headers)) == (409, "call-repeated")
    _, _, headers = await asked(stage, body)
    assert code(await posted(stage, body.replace(b"hex16", b"hex64"), headers)) == (
        401,
        "call-refused",
    )
    unused = call_headers(
        await stage.calling_session(),
        runner=stage.at,
        program=GENERATE,
        body=body,
        now=SystemClock().now(),
        entropy=SystemEntropy(),
    )
    assert code(await stage.post(body, unused)) == (400, "request-invalid")
    assert (await asked(stage, body))[1]["existing"] == ["PROTECTED_ONCE"]


async def test_exactly_what_was_granted(stage: RunnerStage) -> None:
    """RN143: a grant for fewer or more secrets than requested is not used."""
    await granted(stage, "PROTECTED_C", "PROTECTED_D")
    for wanted in (
        {"PROTECTED_C": "hex16"},
        {"PROTECTED_C": "hex16", "PROTECTED_D": "hex16", "PROTECTED_E": "hex16"},
    ):
        status, answer, _ = await asked(stage, body_for(stage, **wanted))
        assert code((status, answer)) == (403, "generation-not-granted")
    for names, ability in (
        (("PROTECTED_C",), GET),
        (("API_KEY",), PUT),
        (("PROTECTED_C", "API_KEY"), PUT),
    ):
        with pytest.raises(GrantNotTaken):
            await granted(stage, *names, ability=ability)
    folder = stage.owner.secrets().resource("PROTECTED_C").removesuffix("/PROTECTED_C")
    portable = await stage.owner.delegations.delegate(
        stage.runner.did, [allow(folder, PUT)], wallet=stage.wallet, ttl_s=600
    )
    with pytest.raises(GrantNotTaken):
        await deliver(stage.url, portable)


async def test_a_grant_that_was_revoked(stage: RunnerStage) -> None:
    """RN143: the node refuses each write under a revoked grant."""
    portable = await granted(stage, "PROTECTED_F")
    await stage.owner.delegations.revoke_by_wallet(portable, stage.wallet)
    status, answer, _ = await asked(stage, body_for(stage, PROTECTED_F="hex16"))
    assert code((status, answer)) == (403, "generation-not-granted") and answer["generated"] == []


async def test_protected_secrets_are_granted_with_their_network_alone(stage: RunnerStage) -> None:
    """RN146: a run grant that mixes secrets and networks is refused."""
    owner, seen = stage.owner, await stage.look()
    for name, network in (("PROTECTED_KEY", "default"), ("API_KEY", PROTECTED_NETWORK)):
        resource = owner.secrets().resource(name)
        wanted = [allow(resource, GET), allow(owner.encryption.network(network).text, DECRYPT)]
        policy = policy_for(seen, paths=[resource], ttl_s=600)
        statement = RunStatement(programs=(ByHash("ab" * 32),))
        portable = await owner.delegations.delegate(
            seen.did, wanted, policy=policy, run=statement, wallet=stage.wallet, ttl_s=600
        )
        with pytest.raises(GrantNotTaken, match="PROTECTED_"):
            await deliver(stage.url, portable)


async def test_an_owner_without_the_network(stage: RunnerStage) -> None:
    """RN144: without the network `protected` the request fails with its code."""
    someone = await stage.client()
    await someone.sign_in_with_key(bytes(31) + b"k", spaces=("secrets", "default"))
    resource = someone.secrets().resource("PROTECTED_KEY")
    portable = await someone.delegations.delegate(
        stage.runner.did, [allow(resource, PUT)], ttl_s=600
    )
    await deliver(stage.url, portable)
    body = json.dumps(
        generation_body(someone.session.owner, None, {"PROTECTED_KEY": "hex16"})
    ).encode()
    status, answer, _ = await asked(stage, body, session=someone.session)
    assert code((status, answer)) == (409, "network-unknown")
    # makes it
    made = await someone.runners.generate(await stage.look(), {"PROTECTED_KEY": "hex16"})
    assert made.generated == ("PROTECTED_KEY",)


async def test_other_code_with_the_runner_s_key(stage: RunnerStage, tmp_path: Path) -> None:
    """RN149: a statement of other code under the runner's DID is recognised."""
    seen = await stage.look()
    async with AsyncExitStack() as stack:
        other = await stage.another(stack, tmp_path / "runner", image="other")
        made = await stage.owner.runners.generate(
            replace(seen, url=other.url), {"PROTECTED_OTHER": "hex16"}, wallet=stage.wallet
        )
        start = other.runner.identity.start
    assert made.statement is not None
    with pytest.raises(StatementInvalid):
        await verify_generated(
            made.statement,
            stage.runner.identity.start,
            stage.inspector,
            authorization=made.authorization,
        )
    with pytest.raises(StatementInvalid, match="a different request"):
        await verify_generated(made.statement, start, stage.inspector, authorization="another")
    verified = await verify_generated(
        made.statement, start, stage.inspector, authorization=made.authorization
    )
    with pytest.raises(BackendNotExpected):
        require_like(startup_evidence(verified), policy_for(seen, ttl_s=600))


async def test_a_body_that_is_too_long(stage: RunnerStage) -> None:
    """RN142: a body that is too long is refused unread."""
    status, answer, _ = await asked(stage, b" " * 20_000)
    assert code((status, answer)) == (413, "input-too-large")
