"""Tests of `sealspace secret show`, which says who can read a secret."""

import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from oidc_issuer import Issuer
from owner_desk import OwnerDesk, owner_desk
from relay import Answer, relay_before

from capabilities.signatures import Ed25519Signer
from sealspace.cli.owner.owner_profile import OwnerHome
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.wallets import new_wallet

PUT = "tinycloud.kv/put"


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """A logged-in owner with a secret."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        async with desk.client() as client:
            await client.secrets().put("API_KEY", "open sesame")
        yield desk


async def show(desk: OwnerDesk, *more: str) -> dict[str, Any]:
    """Return the answer about API_KEY as JSON."""
    ran = await desk.run("secret", "show", "API_KEY", "--json", *more)
    assert ran.status == 0, ran
    return dict(json.loads(ran.out))


async def test_a_new_secret_is_the_owners_alone(desk: OwnerDesk) -> None:
    """Without grants, the owner, this login and the operator can read the secret."""
    ran = await desk.run("secret", "show", "API_KEY")
    assert ran.status == 0, ran
    assert "this login of yours" in ran.out
    assert "the operator of the node, which does not run in a TEE" in ran.out
    assert "nobody else" not in ran.out  # the operator can read it
    answer = await show(desk)
    assert [one["kind"] for one in answer["readers"]] == ["owner", "session", "operator"]
    assert {one["state"] for one in answer["readers"]} == {"now"}
    assert answer["isComplete"] is True
    assert answer["writers"] == []


async def test_people_tokens_and_jobs_have_names_and_an_end(desk: OwnerDesk) -> None:
    """People with copies, machine tokens and trusts are listed with the command that ends them,
    and each of these commands works."""
    async with Client(desk.node) as friend:
        await friend.sign_in(new_wallet())
        await friend.encryption.ensure_network()
        person = friend.session.owner
    jwks = desk.home.with_name("keys.json")
    jwks.write_text(Issuer("https://ci.test").jwks)
    trust = ("ci", "trust", "other", "--name", "shop", "--issuer", "https://ci.test")
    for command in (
        ("secret", "share", "API_KEY", "--with", person),
        ("team", "add", "ops", person),
        ("secret", "share", "API_KEY", "--with", "team:ops"),
        ("token", "create", "deploy", "--secret", "API_KEY"),
        (*trust, "--claim", "level=3", "--jwks", str(jwks), "--secret", "API_KEY"),
    ):
        ran = await desk.run(*command)
        assert ran.status == 0, ran
    readers = (await show(desk))["readers"]
    others = [one for one in readers if one["kind"] in ("person", "token", "ci")]
    assert {(one["kind"], one["name"], one["state"]) for one in others} == {
        ("ci", "shop", "id_token"),
        ("person", None, "now"),
        ("person", "ops", "now"),
        ("token", "deploy", "now"),
    }
    (listed,) = [one for one in others if one["kind"] == "ci"]
    assert listed["claims"] == ["iss = https://ci.test", "level = 3"]
    shown = await desk.run("secret", "show", "API_KEY")
    for one in others:
        assert f"to end it: {one['toEnd']}" in shown.out
        ran = await desk.run(*one["toEnd"].split()[1:])
        assert ran.status == 0, ran
    assert {one["kind"] for one in (await show(desk))["readers"]} == {
        "owner",
        "session",
        "operator",
    }


async def test_the_end_of_a_share_in_a_scope(desk: OwnerDesk, tmp_path: Path) -> None:
    """The command that ends the share of a secret in a scope works as it is printed, and is for the
    same home."""
    friend = tmp_path / "friend"
    assert (await desk.run("login", desk.node, "--new", home=friend)).status == 0
    person = json.loads((await desk.run("whoami", "--json", home=friend)).out)["owner"]
    await desk.run("secret", "put", "DB", "--scope", "prod", given="postgres")
    shared = await desk.run("secret", "share", "DB", "--scope", "prod", "--with", person)
    assert shared.status == 0, shared
    shown = await desk.run("secret", "show", "DB", "--scope", "prod")
    arguments = ("secret", "unshare", "DB", "--scope", "prod", "--with", person)
    home = shlex.quote(str(desk.home))
    assert f"to end it: sealspace --home {home} {shlex.join(arguments)}\n" in shown.out
    ended = await desk.run(*arguments)
    assert (ended.status, "copies of: prod/DB" in ended.err) == (0, True), ended


async def test_writers_are_listed(desk: OwnerDesk) -> None:
    """A grant with which somebody can replace the secret is listed, although it reads nothing."""
    writer = Ed25519Signer(bytes([7]) * 32).did
    async with desk.client() as client:
        right = allow(client.secrets().resource("API_KEY"), PUT)
        wallet = OwnerHome(desk.home).profile().wallet()
        await client.delegations.delegate(writer, [right], wallet=wallet)
    answer = await show(desk)
    assert [one["did"] for one in answer["writers"]] == [writer]
    assert writer not in [one["did"] for one in answer["readers"]]
    shown = await desk.run("secret", "show", "API_KEY")
    home = shlex.quote(str(desk.home))
    ending = f"sealspace --home {home} grant revoke {answer['writers'][0]['grant']}"
    assert f"to end it: {ending}\n" in shown.out


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("/delegation/query", "your grants"),
        ("/policy", "the policy of your network"),
        ("/attestation/terms", "the node's conditions"),
        ("/receipts", "when rights were last used"),
    ],
)
async def test_an_answer_with_a_gap_says_so(desk: OwnerDesk, part: str, said: str) -> None:
    """If a part of the answer cannot be fetched, a warning names it, the exit status is 18, and the
    answer does not say that nobody else can read the secret."""

    def refuse(answer: Answer) -> None:
        if answer.path.partition("?")[0].endswith(part):
            answer.status, answer.body = 403, b"not authorized"

    async with relay_before(desk.node) as relay:
        relay.twist = refuse
        ran = await desk.run("secret", "show", "API_KEY", "--node", relay.url)
    assert ran.status == 18, ran
    assert said in ran.err
    assert "nobody else" not in ran.out


async def test_a_missing_secret(desk: OwnerDesk) -> None:
    """A secret that does not exist is refused, with a similar name."""
    ran = await desk.run("secret", "show", "API_KEI")
    assert ran.status == 21, ran
    assert "API_KEY" in ran.err
