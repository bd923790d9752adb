"""Tests of `sealspace secret bind`, and of the marks of values that state no place (EN34, EN48)."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from oidc_issuer import Issuer
from owner_desk import OwnerDesk, Ran, owner_desk
from relabelled import relabel, store_unbound
from relay import Answer, relay_before

from capabilities.clock_and_entropy import SystemClock
from capabilities.signatures import Ed25519Signer
from sealspace.cli.owner.owner_profile import OwnerHome
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.wire.delegation_history import writers_of
from sealspace.wire.token_line import read_token

PUT, GET, DELETE = "tinycloud.kv/put", "tinycloud.kv/get", "tinycloud.kv/del"
WRITER = Ed25519Signer(bytes([7]) * 32).did
CUT = "grants in force, and only these were checked; others may also write these secrets"


class Office:
    """An owner with secrets that state no place."""

    def __init__(self, desk: OwnerDesk) -> None:
        self.desk = desk

    async def run(self, *arguments: str, name: str = "API_KEY") -> Ran:
        """Store a secret without a place, and bind it."""
        async with self.desk.client() as client:
            scope = arguments[1] if "--scope" in arguments else None
            await store_unbound(client, f"{scope}/{name}" if scope else name, "alpha")
        ran = await self.desk.run("secret", "bind", name, *arguments, "--yes")
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
    """An owner at a node."""
    monkeypatch.delenv("SEALSPACE_TOKEN", raising=False)
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        yield Office(desk)


# --- binding --------------------------------------------------------------------------------------


async def test_EN48_values_are_bound_by_name(office: Office) -> None:
    """The command says what it binds, and a second run finds nothing to do."""
    bound = await office.run()
    assert "API_KEY does not state its place; stored " in bound.err
    assert bound.err.splitlines()[-1] == "bound API_KEY"
    again = await office.desk.run("secret", "bind", "API_KEY", "--json")
    assert again.err == "nothing to bind: no value that was read lacks its place\n"
    assert json.loads(again.out) == {
        "bound": [],
        "boundBefore": ["API_KEY"],
        "skipped": [],
        "refused": [],
    }


async def test_EN48_all_values_are_bound(office: Office) -> None:
    """With --all, every scope is bound, and generated and moved values are named."""
    async with office.desk.client() as client:
        for label in ("API_KEY", "ci/TOKEN", "BANK", "PROTECTED_KEY"):
            await store_unbound(client, label, "canary")
        await client.secrets().put("BOUND", "value")
        await relabel(client, "BANK", "MOVED", label="changed")
    ran = await office.desk.run("secret", "bind", "--all", "--yes", "--json")
    found = json.loads(ran.out)
    assert (found["bound"], found["boundBefore"]) == (["API_KEY", "ci/TOKEN"], ["BOUND"])
    assert found["skipped"] == ["PROTECTED_KEY"]
    assert found["refused"] == [
        {"secret": name, "code": "place-mismatch"} for name in ("BANK", "MOVED")
    ]
    assert ran.status != 0 and "canary" not in ran.out + ran.err
    assert "was also stored at vault/secrets/MOVED" in ran.err


async def test_EN48_the_owner_is_asked(office: Office) -> None:
    """Without --yes a person is asked, and a script is refused; nothing is stored then."""
    async with office.desk.client() as client:
        await store_unbound(client, "API_KEY", "alpha")
        for typed in (None, "n\n"):
            ran = await office.desk.run("secret", "bind", "API_KEY", typed=typed)
            assert ran.status != 0, ran
            assert not (await client.secrets().read("API_KEY")).is_bound
        assert (await office.desk.run("secret", "bind", "API_KEY", typed="y\n")).status == 0
        assert (await client.secrets().read("API_KEY")).is_bound


@pytest.mark.parametrize("arguments", [(), ("A", "--all"), ("--all", "--scope", "ci")])
async def test_EN48_what_to_bind_has_to_be_clear(
    office: Office, arguments: tuple[str, ...]
) -> None:
    """The command takes names, or --all for every scope."""
    assert (await office.desk.run("secret", "bind", *arguments)).status == 2


async def test_EN48_copies_are_renewed(office: Office) -> None:
    """Binding renews copies, also those that an interrupted run left without a place."""
    desk = office.desk
    friends = desk.home.with_name("friend")
    assert (await desk.run("login", desk.node, "--new", home=friends)).status == 0
    friend = json.loads((await desk.run("whoami", "--json", home=friends)).out)["owner"]
    owner = json.loads((await desk.run("whoami", "--json")).out)["owner"]
    reading = ("secret", "get", "API_KEY", "--from", owner)
    async with desk.client() as client:
        await store_unbound(client, "API_KEY", "alpha")
    refused = await desk.run("secret", "share", "API_KEY", "--with", friend)
    assert refused.status != 0 and "sealspace secret bind API_KEY" in refused.next
    assert (await desk.run("secret", "bind", "API_KEY", "--yes")).status == 0
    assert (await desk.run("secret", "share", "API_KEY", "--with", friend)).status == 0
    assert (await desk.run(*reading, home=friends)).out == "alpha"
    async with desk.client() as client:
        await store_unbound(client, "API_KEY", "beta")
        assert await client.secrets().bind("API_KEY")  # as a run that ended before the copies
    assert (await desk.run(*reading, home=friends)).out == "alpha"
    renewed = await desk.run("secret", "bind", "API_KEY")
    assert "renewed the copies of API_KEY" in renewed.err
    assert (await desk.run(*reading, home=friends)).out == "beta"


# --- marks and grants -----------------------------------------------------------------------------


async def test_EN46_unbound_values_are_marked(office: Office) -> None:
    """`secret get` warns, its JSON has the mark, and `secret list --check` opens each value."""
    desk = office.desk
    async with desk.client() as client:
        await store_unbound(client, "API_KEY", "alpha")
        await client.secrets().put_many({"BANK": "beta", "MOVED": "gamma"})
        await relabel(client, "BANK", "MOVED", label="changed")
    got = await desk.run("secret", "get", "API_KEY")
    assert got.out == "alpha" and got.err.endswith("run: sealspace secret bind API_KEY\n")
    assert "warning" not in (await desk.run("secret", "get", "BANK")).err
    for name, is_bound in (("API_KEY", False), ("BANK", True)):
        printed = (await desk.run("secret", "get", name, "--json")).out
        assert json.loads(printed)["isBound"] is is_bound
    checked = await desk.run("secret", "list", "--check", "--json")
    places = {one["name"]: one["place"] for one in json.loads(checked.out)}
    assert places == {"API_KEY": "unbound", "BANK": "bound", "MOVED": "place-mismatch"}
    assert checked.err.startswith("1 values do not state") and "secret bind --all" in checked.err
    listed = json.loads((await desk.run("secret", "list", "--json")).out)
    assert all("place" not in one for one in listed)


@pytest.mark.parametrize("allows", [False, True])
async def test_EN46_tokens_and_trusts_may_allow_them(office: Office, allows: bool) -> None:
    """With --allow-unbound, tokens and trusts allow values without a place."""
    desk, more = office.desk, ["--allow-unbound"] if allows else []
    async with desk.client() as client:
        await store_unbound(client, "API_KEY", "alpha")
    made = await desk.run("token", "create", "deploy", "--secret", "API_KEY", *more)
    jwks = desk.home.with_name("keys.json")
    jwks.write_text(Issuer("https://ci.test").jwks)
    trust = ("--issuer", "https://ci.test", "--claim", "level=3", "--jwks", str(jwks))
    trusted = await desk.run("ci", "trust", "other", *trust, "--secret", "API_KEY", *more)
    assert (made.status, trusted.status) == (0, 0)
    for kind in ("token", "ci"):
        (listed,) = json.loads((await desk.run(kind, "list", "--json")).out)
        assert listed["allowsUnbound"] is allows
    async with Client(desk.node, session=read_token(made.out)) as program:
        secret = await program.secrets().read("API_KEY") if allows else None
        assert secret is None or not secret.is_bound


# --- who else may write ---------------------------------------------------------------------------


async def test_EN34_a_writer_of_the_path_is_named(office: Office) -> None:
    """The command names the recipient of a right to write, its expiry, and the command that
    revokes it."""
    cid = await office.grant("vault/secrets/API_KEY", PUT, GET)
    warned = await office.run()
    first, second = warned.err.splitlines()[2:4]
    assert first.startswith(f"warning: {WRITER} may write API_KEY, until 20")
    assert second == f"to revoke this right: sealspace grant revoke {cid}"
    assert (await office.desk.run(*second.partition("sealspace ")[2].split())).status == 0
    assert "warning" not in (await office.run()).err


async def test_EN34_other_grants_are_not_named(
    office: Office, monkeypatch: pytest.MonkeyPatch
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
    before = (await office.run()).err
    assert before.count("grant revoke") == 1 and ending in before
    now = SystemClock.now
    monkeypatch.setattr(SystemClock, "now", staticmethod(lambda: now() + 120))
    assert "warning" not in (await office.run()).err


@pytest.mark.parametrize("path", ["vault/secrets/", "vault/secrets", "vault", ""])
async def test_EN34_a_grant_of_a_folder_covers_the_path(office: Office, path: str) -> None:
    """A grant of a folder above the secret, or of the whole space, is named."""
    cid = await office.grant(path, PUT)
    assert f"sealspace grant revoke {cid}" in (await office.run()).err


async def test_EN34_a_secret_in_a_scope(office: Office) -> None:
    """The scope is part of the path: only writers of the secret in this scope are named."""
    await office.grant("vault/secrets/DB_URL", PUT)
    assert "warning" not in (await office.run("--scope", "prod", name="DB_URL")).err
    cid = await office.grant("vault/secrets/scoped/prod/DB_URL", PUT)
    warned = (await office.run("--scope", "prod", name="DB_URL")).err
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
        assert "warning" not in (await office.run()).err
        await client.delegations.revoke(signed_in)
        # The whole history, with the revoked sign-in in it.
        records = [one async for one in client.delegations.query(direction="granted")]
        assert [one.cid for one in writers_of(records, secret, wallet.did)] == [added]
    assert f"grant revoke {added}" in (await office.run()).err


async def test_EN34_a_grant_by_a_session(office: Office) -> None:
    """The warning names a grant that was signed by a session of the owner."""
    async with office.desk.client() as client:
        rights = [allow(client.secrets().resource("API_KEY"), PUT)]
        cid = (await client.delegations.delegate(WRITER, rights)).cid
    assert f"grant revoke {cid}" in (await office.run()).err


async def test_EN34_the_name_of_a_backend(office: Office) -> None:
    """The warning shows a known recipient by its address."""
    async with office.desk.client() as client:
        rights = [allow(client.secrets().resource("API_KEY"), PUT)]
        portable = await client.delegations.delegate(WRITER, rights)
    OwnerHome(office.desk.home).keep_grant(portable, url="https://backend.test")
    warned = (await office.run()).err
    assert f"{WRITER} (the backend at https://backend.test) may write API_KEY" in warned


async def test_EN34_writers_as_json(office: Office) -> None:
    """With --json, the result lists the writers; --quiet omits warnings."""
    cid = await office.grant("vault/secrets/API_KEY", PUT)
    async with office.desk.client() as client:
        await store_unbound(client, "API_KEY", "alpha")
    ran = await office.desk.run("secret", "bind", "API_KEY", "--json", "--quiet", "--yes")
    found = json.loads(ran.out)
    assert ran.err == "" and found["writersList"] == "complete"
    (writer,) = found["writers"]
    assert (writer["cid"], writer["to"], writer["name"]) == (cid, WRITER, None)
    assert writer["secrets"] == ["API_KEY"] and writer["expiresAt"]


async def test_EN34_a_cut_list_says_so(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning says that further grants may exist if the list of grants was truncated."""
    assert CUT not in (await office.run()).err
    await office.grant("vault/secrets/API_KEY", PUT)
    monkeypatch.setattr("sealspace.cli.share.secret_bind.MOST_GRANTS", 1)
    assert f"more than 1 {CUT}; next: sealspace grant list" in (await office.run()).err


async def test_EN34_a_list_that_cannot_be_read(office: Office) -> None:
    """If the node does not return the list of grants, the command warns and continues."""

    def refuse(answer: Answer) -> None:
        # The copies are listed with tokens; their failure would be another error.
        if answer.path == "/delegation/query" and b'"tokens"' not in answer.asked:
            answer.status, answer.body = 403, b"Delegation query proof is not authorized"

    async with relay_before(office.desk.node) as relay:
        relay.twist = refuse
        ran = await office.run("--node", relay.url)
    assert "warning: cannot check who else may write these secrets: " in ran.err
