"""Tests of the warning about other writers of a secret, shown before a token, trust or share is
signed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from oidc_issuer import Issuer
from owner_desk import OwnerDesk, Ran, owner_desk
from relay import Answer, relay_before

from capabilities.clock_and_entropy import SystemClock
from capabilities.signatures import Ed25519Signer
from sealspace.cli.owner.owner_profile import OwnerHome
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.wallets import new_wallet
from sealspace.wire.delegation_history import writers_of
from sealspace.wire.token_line import read_token

PUT, GET, DELETE = "tinycloud.kv/put", "tinycloud.kv/get", "tinycloud.kv/del"
WRITER = Ed25519Signer(bytes([7]) * 32).did
COMMANDS = ("token", "trust", "share")
CUT = "grants in force, and only these were checked; others may also write these secrets"


class Office:
    """An owner, and the three commands that give somebody access to the owner's secrets."""

    def __init__(self, desk: OwnerDesk, friend: str) -> None:
        self.desk, self.friend = desk, friend

    async def run(self, command: str, *more: str, name: str = "API_KEY") -> Ran:
        """Run the command that gives somebody access to a secret."""
        jwks = self.desk.home.with_name("keys.json")
        jwks.write_text(Issuer("https://ci.test").jwks)
        arguments = {
            "token": ("token", "create", "deploy", "--secret", name),
            "trust": (
                *("ci", "trust", "other", "--issuer", "https://ci.test", "--claim", "level=3"),
                *("--jwks", str(jwks), "--secret", name),
            ),
            "share": ("secret", "share", name, "--with", self.friend),
        }[command]
        ran = await self.desk.run(*arguments, *more)
        assert ran.status == 0, ran
        return ran

    async def grant(self, path: str, *abilities: str, ttl_s: float = 3600) -> str:
        """Grant abilities on a path of the space `secrets`, and return the grant's CID."""
        async with self.desk.client() as client:
            space = client.kv("secrets").space.text
            resource = f"{space}/kv/{path}" if path else f"{space}/kv"
            rights = [allow(resource, one) for one in abilities]
            wallet = OwnerHome(self.desk.home).profile().wallet()
            portable = await client.delegations.delegate(WRITER, rights, wallet=wallet, ttl_s=ttl_s)
            return portable.cid


@pytest.fixture
async def office(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Office]:
    """An owner with two secrets, and a friend at the same node."""
    monkeypatch.delenv("SEALSPACE_TOKEN", raising=False)
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        friends = desk.home.with_name("friend")
        assert (await desk.run("login", desk.node, "--new", home=friends)).status == 0
        friend = json.loads((await desk.run("whoami", "--json", home=friends)).out)["owner"]
        await desk.log_in()
        async with desk.client() as client:
            await client.secrets().put("API_KEY", "alpha")
            await client.secrets().put("DB_URL", "beta", scope="prod")
        yield Office(desk, friend)


@pytest.mark.parametrize("command", COMMANDS)
async def test_EN34_a_writer_of_the_path_is_named(office: Office, command: str) -> None:
    """Each command names the recipient of a right to write, its expiry, and the command that
    revokes it."""
    cid = await office.grant("vault/secrets/API_KEY", PUT, GET)
    warned = await office.run(command)
    first, second = warned.err.splitlines()[:2]
    assert first.startswith(f"warning: {WRITER} may write API_KEY, until 20")
    assert second == f"to revoke this right: sealspace grant revoke {cid}"
    assert (await office.desk.run(*second.partition("sealspace ")[2].split())).status == 0
    assert "warning" not in (await office.run(command)).err


async def test_EN34_a_token_reads_what_a_writer_stored(office: Office) -> None:
    """A writer can make a token read another secret by replacing an envelope, so the warning names
    the writer."""
    async with office.desk.client() as owner, Client(office.desk.node) as writer:
        await owner.secrets().put("OTHER_KEY", "not for tokens")
        await writer.sign_in(new_wallet())
        at, other = (owner.secrets().resource(one) for one in ("API_KEY", "OTHER_KEY"))
        rights = [allow(at, PUT), allow(at, GET), allow(other, GET)]
        await writer.delegations.accept(
            await owner.delegations.delegate(writer.session.did, rights, ttl_s=3600)
        )
        values = writer.kv(owner.kv("secrets").space.text)
        envelope = json.loads((await values.get("vault/secrets/OTHER_KEY")).body)
        replaced = json.loads((await values.get("vault/secrets/API_KEY")).body)
        envelope["aad"] = replaced["aad"]
        await values.put("vault/secrets/API_KEY", json.dumps(envelope))
        made = await office.run("token")
        async with Client(office.desk.node, session=read_token(made.out)) as program:
            assert await program.secrets().get("API_KEY") == "not for tokens"
        assert f"warning: {writer.session.did} may write API_KEY" in made.err


@pytest.mark.parametrize("command", COMMANDS)
async def test_EN34_other_grants_are_not_named(
    office: Office, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grants of other paths, other rights or the owner's own sessions cause no warning (A6)."""
    for path in ("API_KEY2", "API_KEY/below", "scoped/prod/API_KEY", "notes/"):
        await office.grant(f"vault/secrets/{path}", PUT)
    await office.grant("vault/secrets/", GET, DELETE, "tinycloud.kv/*")
    ending = await office.grant("vault/secrets/API_KEY", PUT, ttl_s=60)
    revoked = await office.grant("vault/secrets/API_KEY", PUT)
    async with office.desk.client() as client:
        await client.delegations.revoke(revoked)
    assert (await office.desk.run("login", office.desk.node)).status == 0  # a second session
    before = (await office.run(command)).err
    assert before.count("grant revoke") == 1 and ending in before
    now = SystemClock.now
    monkeypatch.setattr(SystemClock, "now", staticmethod(lambda: now() + 120))
    assert "warning" not in (await office.run(command)).err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("path", ["vault/secrets/", "vault/secrets", "vault", ""])
async def test_EN34_a_grant_of_a_folder_covers_the_path(
    office: Office, command: str, path: str
) -> None:
    """A grant of a folder above the secret, or of the whole space, is named."""
    cid = await office.grant(path, PUT)
    assert f"sealspace grant revoke {cid}" in (await office.run(command)).err


@pytest.mark.parametrize("command", COMMANDS)
async def test_EN34_a_secret_in_a_scope(office: Office, command: str) -> None:
    """The scope is part of the path: only writers of the secret in this scope are named."""
    await office.grant("vault/secrets/DB_URL", PUT)
    assert "warning" not in (await office.run(command, "--scope", "prod", name="DB_URL")).err
    cid = await office.grant("vault/secrets/scoped/prod/DB_URL", PUT)
    warned = (await office.run(command, "--scope", "prod", name="DB_URL")).err
    assert f"{WRITER} may write prod/DB_URL, until" in warned
    assert warned.count("grant revoke") == 1 and cid in warned


async def test_EN34_a_session_whose_sign_in_was_revoked(office: Office) -> None:
    """The warning names a live grant of a session key whose sign-in was revoked."""
    async with office.desk.client() as client, Client(office.desk.node) as lost:
        wallet = OwnerHome(office.desk.home).profile().wallet()
        assert wallet is not None
        await lost.sign_in(wallet)
        signed_in = lost.session.grants[0].cid
        secret = lost.secrets().resource("API_KEY")
        await lost.delegations.add_right(wallet, [allow(secret, PUT)])
        added = lost.session.grants[-1].cid
        assert "warning" not in (await office.run("token")).err
        await client.delegations.revoke(signed_in)
        # The whole history, with the revoked sign-in in it.
        records = [one async for one in client.delegations.query(direction="granted")]
        assert [one.cid for one in writers_of(records, secret, wallet.did)] == [added]
    assert f"grant revoke {added}" in (await office.run("token")).err


async def test_EN34_a_grant_by_a_session(office: Office) -> None:
    """The warning names a grant that was signed by a session of the owner."""
    async with office.desk.client() as client:
        rights = [allow(client.secrets().resource("API_KEY"), PUT)]
        cid = (await client.delegations.delegate(WRITER, rights)).cid
    assert f"grant revoke {cid}" in (await office.run("token")).err


async def test_EN34_the_name_of_a_backend(office: Office) -> None:
    """The warning shows a known recipient by its address."""
    async with office.desk.client() as client:
        rights = [allow(client.secrets().resource("API_KEY"), PUT)]
        portable = await client.delegations.delegate(WRITER, rights)
    OwnerHome(office.desk.home).keep_grant(portable, url="https://backend.test")
    warned = (await office.run("token")).err
    assert f"{WRITER} (the backend at https://backend.test) may write API_KEY" in warned


async def test_EN34_writers_as_json(office: Office) -> None:
    """With --json, the results of the token and trust commands list the writers; --quiet omits
    warnings."""
    cid = await office.grant("vault/secrets/API_KEY", PUT)
    for command in ("token", "trust"):
        ran = await office.run(command, "--json", "--quiet")
        found = json.loads(ran.out)
        assert ran.err == "" and found["writersList"] == "complete"
        (writer,) = found["writers"]
        assert writer["cid"] == cid
        assert writer["to"] == WRITER
        assert writer["name"] is None
        assert writer["secrets"] == ["API_KEY"] and writer["expiresAt"]


@pytest.mark.parametrize("command", COMMANDS)
async def test_EN34_a_cut_list_says_so(
    office: Office, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning says that further grants may exist if the list of grants was truncated."""
    assert CUT not in (await office.run(command)).err
    await office.grant("vault/secrets/API_KEY", PUT)
    monkeypatch.setattr("sealspace.cli.share.secret_writers.MOST_GRANTS", 1)
    assert f"more than 1 {CUT}; next: sealspace grant list" in (await office.run(command)).err


@pytest.mark.parametrize("command", COMMANDS)
async def test_EN34_a_list_that_cannot_be_read(office: Office, command: str) -> None:
    """If the node does not return the list of grants, the command warns and continues."""

    def refuse(answer: Answer) -> None:
        # Sharing reads the list with tokens; without these it would find nobody to share with.
        if answer.path == "/delegation/query" and b'"tokens"' not in answer.asked:
            answer.status, answer.body = 403, b"Delegation query proof is not authorized"

    async with relay_before(office.desk.node) as relay:
        relay.twist = refuse
        ran = await office.run(command, "--node", relay.url)
    assert "warning: cannot check who else may write these secrets: " in ran.err


async def test_EN34_a_new_member_of_a_team(office: Office) -> None:
    """The command `team add` warns of others who may write the team's secrets."""
    friend, desk = office.friend, office.desk
    assert "warning" not in (await desk.run("team", "add", "ops", friend)).err
    assert (await desk.run("secret", "share", "API_KEY", "--with", "team:ops")).status == 0
    cid = await office.grant("vault/secrets/API_KEY", PUT)
    assert f"grant revoke {cid}" in (await desk.run("team", "add", "ops", friend)).err
