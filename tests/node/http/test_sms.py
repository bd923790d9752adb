"""Tests of the service for iExec's clients, with a node in this process (SM1 to SM13; the cases of
X7.1)."""

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import get_args
from urllib.parse import unquote_to_bytes

import pytest
from audit_records import audit_records
from embedded_node import EmbeddedNode, embedded_node
from running_node import Reply, send
from sms_owner import K1, K2, SmsOwner, challenge, keccak, new_owner, signed
from tests_support import Input

from capabilities.principals import Principal
from capabilities.signatures import WalletSigner
from node.config.tree import Config, Hosting, Http, Limits, PublicSpaces, Sms, Store
from sealspace.documents.iexec_names import AddressKind, address_of, requester_secret
from sealspace.documents.project_names import ProjectId
from spaces.store.contract import check_commit, check_read

UNAUTHORIZED = (401, "Invalid authorization", "sms-unauthorized")
NOT_ENABLED = (401, "Invalid authorization", "sms-not-enabled")
USED = (401, "Invalid authorization", "sms-challenge-used")
EXISTS = (409, "Secret already exists", "sms-exists")
BAD_NAME = (
    400,
    "Secret key should contain at most 64 characters from [0-9A-Za-z-_]",
    "sms-bad-name",
)
SIZE = "Secret size should not exceed 4 Kb"
WEB2 = "/secrets/web2?ownerAddress={}&secretName={}"


def said(reply: Reply) -> tuple[int, object, object]:
    """Return the status, the legacy text and the code of a refusal."""
    errors = reply.value["error"]
    assert isinstance(errors, list) and len(errors) == 1
    text = errors[0]
    return reply.status, text, reply.value["code"]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[EmbeddedNode]:
    """A node with the service."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(tmp_path / "data")),
        limits=Limits(unauthenticated_per_minute=10_000),
        sms=Sms(listen="127.0.0.1:0"),
    )
    async with embedded_node(config) as node:
        yield node


@pytest.fixture
async def owner(node: EmbeddedNode, tmp_path: Path) -> SmsOwner:
    """An owner who has enabled the service, and also its public checks."""
    owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
    await owner.enable("--public-checks")
    return owner


# --- pushing --------------------------------------------------------------------------------------


async def test_each_kind_is_pushed_once(owner: SmsOwner) -> None:
    """iexec-S1, iexec-S2, iexec-S13, SM11: a pushed secret is found at once, and a second push
    changes nothing."""
    app = await owner.publish("app", "digest")
    dataset = await owner.publish("dataset", "prices")
    kinds = (
        (
            f"/apps/{app}/secrets",
            lambda value: owner.push_app(app, value),
            f"APP_{app[2:].upper()}",
        ),
        (
            f"/requesters/{owner.address}/secrets/db-password",
            lambda value: owner.push_requester("db-password", value),
            "NAME_DB_HPASSWORD",
        ),
        (
            f"/secrets/web3?secretAddress={dataset}",
            lambda value: owner.push_dataset(dataset, value),
            f"DATASET_{dataset[2:].upper()}",
        ),
        (
            WEB2.format(owner.address, "token"),
            lambda value: owner.push_result("token", value),
            "NAME_TOKEN",
        ),
    )
    scopes = ("iexec-app", "iexec-requester", "iexec-dataset", "iexec-result")
    for (path, push, name), scope in zip(kinds, scopes, strict=True):
        assert await owner.head(path) == 404
        pushed = await push(b"first")
        assert (pushed.status, pushed.body) == (204, b""), pushed
        assert await owner.head(path) == 204
        assert [said(await push(value)) for value in (b"first", b"other")] == [EXISTS, EXISTS]
        assert await owner.value(name, scope) == "first"


@pytest.mark.parametrize("name", ["db-password", "x"])
async def test_a_push_that_the_wallet_did_not_sign(owner: SmsOwner, name: str) -> None:
    """iexec-S3, SM8: a push is refused if the wallet did not sign this value, name and address."""
    path, value = f"/requesters/{owner.address}/secrets/{name}", b"value"
    own = signed(owner.key, challenge(owner.address, name.encode(), value))
    others = [
        signed(K2, challenge(owner.address, name.encode(), value)),
        signed(owner.key, challenge(owner.address, name.encode(), b"other")),
        signed(owner.key, challenge(owner.address, b"other", value)),
        signed(owner.key, challenge("0x" + "11" * 20, name.encode(), value)),
        own[:-2] + "1a",
        own[:-2] + "23",
        "Bearer " + own,
        "",
    ]
    for header in others:
        assert said(await owner.send("POST", path, value, header)) == UNAUTHORIZED, header
    reply = await owner.send("POST", path, value, None)
    assert (reply.status, reply.value["code"]) == (401, "unauthenticated")
    assert await owner.keys() == []
    assert (await owner.send("POST", path, value, own)).status == 204


async def test_the_signature_is_checked_before_the_size(owner: SmsOwner) -> None:
    """iexec-S4: an invalid signature over a value that is too large is answered 401."""
    value = b"x" * 5000
    refused = await owner.push_requester("large", value, sign_as=K2)
    assert said(refused) == UNAUTHORIZED
    assert said(await owner.push_requester("large", value)) == (400, SIZE, "sms-too-large")
    assert said(await owner.push_result("large", value)) == (413, SIZE, "sms-too-large")


@pytest.mark.parametrize(
    ("value", "status"),
    [("a" * 4096, 204), ("a" * 4097, 413), ("\u20ac" * 1365 + "a", 204), ("\u20ac" * 1366, 413)],
    ids=["4096", "4097", "4096 in characters of three bytes", "4098"],
)
async def test_the_size_in_bytes(owner: SmsOwner, value: str, status: int) -> None:
    """iexec-S5, SM6: a value of more than 4096 bytes of UTF-8 is refused."""
    assert (await owner.push_result("sized", value.encode())).status == status


async def test_a_body_that_is_not_read(owner: SmsOwner) -> None:
    """SM6: a body of more than 64 KiB is refused unread."""
    reply = await owner.push_result("huge", b"x" * 65_537)
    assert (reply.status, reply.value["code"]) == (413, "too-large")


NAMES = ["a" * 64, "a" * 65, "a" * 66, "$", "a%20b", "%D9%A1", "a%0A", "a%00"]


@pytest.mark.parametrize("name", NAMES)
async def test_names_of_requesters(owner: SmsOwner, name: str) -> None:
    """iexec-S6, iexec-S11: a malformed name of a requester's secret gets 400 with the fixed
    text."""
    hashed = challenge(owner.address, unquote_to_bytes(name), b"v")
    path = f"/requesters/{owner.address}/secrets/{name}"
    reply = await owner.send("POST", path, b"v", signed(owner.key, hashed))
    if name == NAMES[0]:
        assert (reply.status, await owner.head(path)) == (204, 204)
    else:
        assert said(reply) == BAD_NAME
        assert await owner.head(path) == 400


async def test_case_of_names_and_addresses(owner: SmsOwner) -> None:
    """iexec-S7, iexec-S8, iexec-S9: only the names of requesters are case-sensitive."""
    assert (await owner.push_requester("Foo", b"1")).status == 204
    assert await owner.has_requester("foo") == 404
    assert (await owner.push_requester("foo", b"2")).status == 204
    assert await owner.value(requester_secret("Foo").name, "iexec-requester") == "1"
    assert (await owner.push_result("Foo", b"3")).status == 204
    assert said(await owner.push_result("foo", b"4")) == EXISTS
    upper = WEB2.format(f"0x{owner.address[2:].upper()}", "FOO")
    assert await owner.head(upper) == 204
    app = await owner.publish("app", "digest")
    assert (await owner.push_app(f"0x{app[2:].upper()}", b"1")).status == 204
    assert said(await owner.push_app(app, b"2")) == EXISTS


async def test_replacing_a_secret_of_a_wallet(owner: SmsOwner) -> None:
    """iexec-S10, SM12: a wallet's secret can be replaced with a new signature only."""
    absent = await owner.push_result("token", b"one", "PUT")
    assert said(absent) == (404, "Secret not found", "sms-absent")
    assert (await owner.push_result("token", b"one")).status == 204
    assert (await owner.push_result("token", b"two", "PUT")).status == 204
    for value in (b"one", b"two"):
        assert said(await owner.push_result("token", value, "PUT")) == USED
    assert await owner.value("NAME_TOKEN", "iexec-result") == "two"


async def test_one_signature_for_two_routes(owner: SmsOwner) -> None:
    """SM12: a signature used for a requester's secret is refused for a wallet's secret, and the
    reverse."""
    assert (await owner.push_requester("token", b"one")).status == 204
    assert said(await owner.push_result("token", b"one")) == USED
    assert (await owner.push_result("token", b"two")).status == 204
    assert said(await owner.push_result("token", b"one", "PUT")) == USED
    assert (await owner.push_result("other", b"three")).status == 204
    assert said(await owner.push_requester("other", b"three")) == USED


async def test_a_deleted_secret_is_not_pushed_again_by_a_copy(owner: SmsOwner) -> None:
    """SM12: after a deletion, the former signature does not bring the secret back."""
    assert (await owner.push_requester("gone", b"one")).status == 204
    async with owner.client() as client:
        await client.secrets().delete("NAME_GONE", scope="iexec-requester")
    assert said(await owner.push_requester("gone", b"one")) == USED
    assert (await owner.push_requester("gone", b"two")).status == 204


async def test_requesters_are_independent(
    owner: SmsOwner, node: EmbeddedNode, tmp_path: Path
) -> None:
    """iexec-S12, iexec-S11: two requesters may use the same name for different secrets."""
    second = await new_owner(tmp_path / "second", node.url, node.sms_url, key=K2)
    await second.enable("--public-checks")
    assert (await owner.push_requester("same", b"one")).status == 204
    assert await second.has_requester("same") == 404
    assert (await second.push_requester("same", b"two")).status == 204
    assert await owner.value("NAME_SAME", "iexec-requester") == "one"
    assert await owner.has_requester("same", address=f"0x{'22' * 20}") == 404


@pytest.mark.parametrize("value", ["", " ", "\t\r\n ", b"\xff\xfe", b"a\xc3"])
async def test_values_that_are_refused(owner: SmsOwner, value: str | bytes) -> None:
    """iexec-S18, SM6: blank values and bytes that are not UTF-8 are refused."""
    sent = value.encode() if isinstance(value, str) else value
    reply = await owner.push_requester("name", sent)
    assert said(reply) == (400, "Secret should be UTF-8 text that is not blank", "sms-not-text")
    assert await owner.keys() == []


@pytest.mark.parametrize("value", [" x ", "line\n", "a\0b", "\U0001f511", "\ufffd", "a\u2028"])
async def test_values_are_kept_exactly(owner: SmsOwner, value: str) -> None:
    """iexec-S18: spaces, line ends, NUL and characters beyond the first plane are not changed."""
    assert (await owner.push_requester("exact", value.encode())).status == 204
    assert await owner.value("NAME_EXACT", "iexec-requester") == value


async def test_a_storage_failure(owner: SmsOwner, node: EmbeddedNode) -> None:
    """iexec-S15: a failure of the store is 5xx, never 409."""
    assert (await owner.push_requester("one", b"1")).status == 204
    await node.services.store.close()
    assert (await owner.push_requester("two", b"2")).status >= 500
    assert (await owner.push_requester("one", b"3")).status >= 500


async def test_a_signature_for_another_kind(owner: SmsOwner) -> None:
    """SM4, SM9: a signature for a requester's secret is refused for a data set's key."""
    hashed = challenge(owner.address, b"name", b"value")
    longer = f"{owner.address}{keccak(b'name').hex()}"
    path = f"/secrets/web3?secretAddress={longer}"
    reply = await owner.send("POST", path, b"value", signed(owner.key, hashed))
    assert reply.status in (400, 401)
    assert await owner.keys() == []


# --- ownership ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", get_args(AddressKind))
async def test_an_address_without_a_record(
    owner: SmsOwner, node: EmbeddedNode, tmp_path: Path, kind: AddressKind
) -> None:
    """SM9: only the owner whose record hashes to the address may push its secret."""
    push = owner.push_app if kind == "app" else owner.push_dataset
    second = await new_owner(tmp_path / "second", node.url, node.sms_url, key=K2)
    await second.enable()
    theirs = await second.publish(kind, "digest")
    assert said(await push(theirs, b"v")) == UNAUTHORIZED
    # A record with the name of the other's, at the other's address.
    for text in ('{"project":"digest"}', '{"dataset":"digest"}', "{}", "no JSON", "[]"):
        await owner.write_record(kind, theirs, text)
        assert said(await push(theirs, b"v")) == UNAUTHORIZED
    assert await owner.keys() == []


@pytest.mark.parametrize(("name", "stored"), [("None", "null"), ("5", "5"), ("True", "true")])
async def test_a_record_whose_name_is_not_text(owner: SmsOwner, name: str, stored: str) -> None:
    """SM9: a value that only prints like a name is refused."""
    address = address_of("app", ProjectId(Principal(owner.wallet.did), name))
    await owner.write_record("app", address, f'{{"project":{stored}}}')
    assert said(await owner.push_app(address, b"v")) == UNAUTHORIZED


async def test_addresses_that_are_none(owner: SmsOwner) -> None:
    """SM9: a malformed address is answered like an address without a record."""
    for address in ("0x", "0x12", f"0x{'1' * 42}"):
        assert (await owner.push_app(address, b"v")).status in (400, 401)
        assert await owner.head(f"/apps/{address}/secrets") in (400, 404)
    assert said(await owner.send("POST", "/apps/0xzz/secrets", b"v", "0x" + "0" * 130)) == (
        UNAUTHORIZED
    )


async def test_a_node_that_does_not_host_the_service(tmp_path: Path) -> None:
    """SM11: at a node without the service's space, secrets can be pushed, and checks by address
    find none."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(tmp_path / "data")),
        hosting=Hosting(mode="permit", listed=(WalletSigner(K1).did,)),
        sms=Sms(listen="127.0.0.1:0"),
    )
    async with embedded_node(config) as node:
        owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
        await owner.enable("--public-checks")
        app = await owner.publish("app", "digest")
        assert (await owner.push_app(app, b"1")).status == 204
        assert await owner.head(f"/apps/{app}/secrets") == 404
        assert (await owner.push_requester("one", b"2")).status == 204
        assert await owner.has_requester("one") == 204


# --- the grant ------------------------------------------------------------------------------------


async def test_nothing_is_stored_without_a_grant(node: EmbeddedNode, tmp_path: Path) -> None:
    """SM3: a push before enabling, after disabling or after the expiry is refused and names the
    command."""
    owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
    before = await owner.push_requester("one", b"1")
    assert said(before) == NOT_ENABLED and "sealspace sms enable" in before.text
    assert await owner.run("sms", "status") != 0
    await owner.enable()
    assert await owner.run("sms", "status") == 0
    assert (await owner.push_requester("one", b"1")).status == 204
    assert await owner.run("sms", "disable") == 0
    assert await owner.run("sms", "disable") != 0
    used = await owner.keys("iexec/")
    for value in (b"1", b"2"):
        assert said(await owner.push_requester("two", value)) == NOT_ENABLED
        assert said(await owner.push_result("two", value)) == NOT_ENABLED
    assert await owner.keys() == ["vault/secrets/scoped/iexec-requester/NAME_ONE"]
    assert used == await owner.keys("iexec/")
    await owner.enable()
    assert (await owner.push_requester("two", b"2")).status == 204


async def test_a_revoked_grant_is_reported_before_the_value(owner: SmsOwner) -> None:
    """SM5: after `disable`, no name, size or kind of value is examined."""
    assert await owner.run("sms", "disable") == 0
    for name, value in (("one", b"x" * 5000), ("one", b" "), ("a" * 65, b"1")):
        assert said(await owner.push_requester(name, value)) == NOT_ENABLED
        assert said(await owner.push_result(name, value)) == NOT_ENABLED


async def test_what_the_commands_print(
    node: EmbeddedNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SM2: `enable` prints the grant, `status` explains it, `disable` names it."""
    owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
    capsys.readouterr()
    assert await owner.run("sms", "enable", "--public-checks", "--expires", "30d", "--json") == 0
    cid = json.loads(capsys.readouterr().out)["grant"]
    assert await owner.run("sms", "status") == 0
    shown = capsys.readouterr().out
    assert cid in shown and "active" in shown
    for right in (
        "read iexec/apps/ and what is below it in the space secrets",
        "write iexec/used/ and what is below it in the space secrets",
        "see the metadata of, write every secret below scoped/iexec-requester/",
    ):
        assert right in shown
    assert "decrypt" not in shown
    assert await owner.run("sms", "disable") == 0
    assert f"revoked: {cid}" in capsys.readouterr().err
    assert await owner.run("sms", "status") != 0
    assert "sms enable" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "options", "status", "asks"),
    [
        ("y\n", (), 204, True),
        ("n\n", (), 404, True),
        ("y\n", ("--no-public-checks",), 404, False),
        ("n\n", ("--public-checks",), 204, False),
        (None, (), 404, False),
    ],
)
async def test_enable_asks_about_public_checks(
    node: EmbeddedNode,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    typed: str | None,
    options: tuple[str, ...],
    status: int,
    asks: bool,
) -> None:
    """SM10: on a terminal `enable` asks, unless an option answers; elsewhere checks are closed. It
    says what iExec's client shows without them."""
    owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
    monkeypatch.setattr(sys, "stdin", Input(typed or "", is_terminal=typed is not None))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: typed is not None)
    capsys.readouterr()
    await owner.enable(*options)
    told = capsys.readouterr().err
    assert ("let everyone ask whether a secret of yours exists?" in told) is asks
    assert ("`No secret … found`" in told) is (asks or status == 404)
    assert ("sms enable --public-checks" in told) is (status == 404)
    assert (await owner.push_requester("one", b"1")).status == 204
    path = f"/requesters/{owner.address}/secrets/one"
    assert (await owner.send("HEAD", path, b"", None)).status == status


async def test_enabling_again_revokes_the_former_grant(
    owner: SmsOwner, capsys: pytest.CaptureFixture[str]
) -> None:
    """SM2: enabling the service again revokes the previous grant."""
    assert (await owner.push_requester("one", b"1")).status == 204
    assert await owner.has_requester("one") == 204
    await owner.enable()
    assert "existence checks are now closed" in capsys.readouterr().err
    assert await owner.has_requester("one") == 404
    async with owner.client() as client:
        did = (await client.info()).sms_did
        live = [
            record
            async for record in client.delegations.query(direction="granted", status="active")
            if record.delegate == did
        ]
    assert len(live) == 1
    assert {ability for right in live[0].rights for ability in right.abilities} == {
        "tinycloud.kv/put",
        "tinycloud.kv/get",
    }


async def test_a_grant_that_another_owner_stored(
    owner: SmsOwner, node: EmbeddedNode, tmp_path: Path
) -> None:
    """SM3: a stored id of another owner's grant gives no right to push."""
    second = await new_owner(tmp_path / "second", node.url, node.sms_url, key=K2)
    await second.enable()
    async with second.client() as client:
        theirs = (await client.kv("secrets").get("vault/secrets/iexec-grant")).body
    async with owner.client() as client:
        for text in (theirs, b"", b"no cid", b"\xff" * 100, b"x" * 70_000):
            await client.kv("secrets").put("vault/secrets/iexec-grant", text)
            assert said(await owner.push_requester("one", b"1")) == NOT_ENABLED
            assert await owner.has_requester("one") == 404
    assert await owner.keys() == []


async def test_a_revoked_network(owner: SmsOwner, capsys: pytest.CaptureFixture[str]) -> None:
    """SM7: a push to a revoked network is refused."""
    async with owner.client() as client:
        network = client.encryption.network()
        assert await owner.run("network", "revoke", network.name, "--yes") == 0
    assert said(await owner.push_requester("one", b"1")) == NOT_ENABLED
    capsys.readouterr()
    assert await owner.run("sms", "status") != 0
    assert "the network is not active" in capsys.readouterr().err


# --- checks ---------------------------------------------------------------------------------------


async def test_checks_tell_strangers_nothing(node: EmbeddedNode, tmp_path: Path) -> None:
    """SM10: without --public-checks, checks of present and absent secrets get the same answer."""
    owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
    await owner.enable()
    app = await owner.publish("app", "digest")
    assert (await owner.push_app(app, b"1")).status == 204
    assert (await owner.push_requester("one", b"1")).status == 204
    assert (await owner.push_result("one", b"2")).status == 204
    stranger = f"0x{'33' * 20}"
    paths = [
        f"/apps/{app}/secrets",
        f"/apps/{stranger}/secrets",
        f"/requesters/{owner.address}/secrets/one",
        f"/requesters/{owner.address}/secrets/two",
        f"/requesters/{stranger}/secrets/one",
        f"/secrets/web3?secretAddress={app}",
        WEB2.format(owner.address, "one"),
        WEB2.format(stranger, "one"),
    ]
    replies = [await send(node.sms_url, "HEAD", path) for path in paths]
    shown = []
    for reply in replies:
        own = {"date", "tinycloud-trace-id"}
        shown.append((reply.status, {k: v for k, v in reply.headers.items() if k not in own}))
    assert shown == [shown[0]] * len(paths) and shown[0][0] == 404


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the reads and commits of the store until the block ends."""
    kinds = {check_read.__code__: "reads", check_commit.__code__: "commits"}
    found, before = Counter[str](), sys.getprofile()

    def note(frame: FrameType, event: str, _called: object) -> None:
        if event == "call" and frame.f_code in kinds:
            found[kinds[frame.f_code]] += 1

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize(
    ("options", "reads"), [((), 2), (("--public-checks",), 3)], ids=["closed", "public"]
)
async def test_checks_cost_the_same(
    node: EmbeddedNode, tmp_path: Path, options: tuple[str, ...], reads: int
) -> None:
    """SM10: present and absent secrets take the same reads, and a check commits nothing.

    The row of a secret, whose size takes time, is read in a read of its own, after the judgement.
    """
    owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
    await owner.enable(*options)
    assert (await owner.push_requester("one", b"1")).status == 204
    assert await owner.has_requester("one") == (204 if options else 404)  # fills the caches
    costs = []
    for name in ("one", "two", "one", "three"):
        with counted() as cost:
            await owner.has_requester(name)
        costs.append(dict(cost))
    assert costs == [{"reads": reads}] * 4


@pytest.mark.parametrize("kind", get_args(AddressKind))
async def test_checks_by_address_cost_the_same(
    node: EmbeddedNode, tmp_path: Path, kind: AddressKind
) -> None:
    """SM10, SM11: without public checks, a check by address costs the same for present and absent
    secrets."""
    owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
    await owner.enable()
    pushed, other = [await owner.publish(kind, name) for name in ("pushed", "other")]
    push = owner.push_app if kind == "app" else owner.push_dataset
    path = "/apps/{}/secrets" if kind == "app" else "/secrets/web3?secretAddress={}"
    assert (await push(pushed, b"v")).status == 204
    costs = []
    for address in (pushed, other, pushed, other):
        with counted() as cost:
            assert await owner.head(path.format(address)) == 404
        costs.append(dict(cost))
    assert costs == [costs[0]] * 4
    # With public checks, a push that is refused because the secret exists makes the note.
    await owner.enable("--public-checks")
    assert await owner.head(path.format(pushed)) == 404
    assert said(await push(pushed, b"v")) == EXISTS
    assert await owner.head(path.format(pushed)) == 204


async def test_copies_of_a_push_write_nothing(owner: SmsOwner, node: EmbeddedNode) -> None:
    """SM11, SM12: a repeated push causes no commit and no audit record."""
    app = await owner.publish("app", "digest")
    assert (await owner.push_app(app, b"v")).status == 204
    before = len(await audit_records(node.services.store))
    with counted() as cost:
        for value in (b"v", b"v", b"v" * 5000):
            assert (await owner.push_app(app, value)).status in (409, 413)
    assert cost["commits"] == 0
    assert len(await audit_records(node.services.store)) == before


# --- routes ---------------------------------------------------------------------------------------


async def test_no_route_returns_a_value(owner: SmsOwner) -> None:
    """iexec-S17, SM5: no method and path of the service returns a value."""
    secret = b"canary-of-the-scan"
    app = await owner.publish("app", "digest")
    assert (await owner.push_app(app, secret)).status == 204
    assert (await owner.push_requester("one", secret)).status == 204
    assert (await owner.push_result("two", secret)).status == 204
    paths = {
        f"/apps/{app}/secrets": ("HEAD", "POST"),
        f"/requesters/{owner.address}/secrets/one": ("HEAD", "POST"),
        f"/secrets/web3?secretAddress={app}": ("HEAD", "POST"),
        WEB2.format(owner.address, "two"): ("HEAD", "POST", "PUT"),
    }
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE")
    for path, allowed in paths.items():
        for method in methods:
            reply = await send(owner.sms, method, path)
            assert secret not in reply.body
            if method not in allowed:
                assert reply.status == 405, (method, path, reply)
                assert set(reply.headers["allow"].split(", ")) == {*allowed, "OPTIONS"}
    for path in ("/", "/secrets", "/invoke", "/info", f"/apps/{app}", "/admin", "/tee/framework"):
        assert {(await send(owner.sms, method, path)).status for method in methods} == {404}, path


ODD = (
    "/requesters/%FF/secrets/%FF",
    "/requesters/0x%00/secrets/a",
    "/requesters/0x/secrets/",
    f"/requesters/0x{'1' * 40}/secrets/{'%61' * 3000}",
    f"/requesters/0x{'1' * 40_000}/secrets/a",
    "/apps/%2e%2e/secrets",
    "/apps/did:key:z6Mk/secrets",
    "/apps/0x%0a/secrets",
    "/secrets/web3?secretAddress=",
    "/secrets/web3?secretAddress=%ED%A0%80",
    f"/secrets/web3?secretAddress=0x{'1' * 40}&secretAddress=0x{'2' * 40}",
    "/secrets/web2?ownerAddress=%F0&secretName=%F0",
    f"/secrets/web2?ownerAddress=0x{'1' * 40}&secretName=",
    f"/secrets/web2?ownerAddress=0x{'1' * 40}&secretName={'a' * 10_000}",
)


@pytest.mark.parametrize("path", ODD)
async def test_odd_requests_are_refused(node: EmbeddedNode, path: str) -> None:
    """SM5: whatever the path, the query and the header contain, the answer is a refusal."""
    for header in ("0x" + "0" * 128 + "1b", "0x" + "f" * 128 + "1b", "\u00ff", "x" * 10_000):
        for method in ("HEAD", "POST", "PUT"):
            reply = await send(node.sms_url, method, path, token=header, body=b"v")
            assert 400 <= reply.status < 500, (method, header[:20], reply)


async def test_pages_of_other_origins(owner: SmsOwner) -> None:
    """SM5: browsers may push and check from any origin."""
    path = f"/requesters/{owner.address}/secrets/one"
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    preflight = await send(owner.sms, "OPTIONS", path, headers=asked)
    assert preflight.status == 200
    for reply in (preflight, await owner.push_requester("one", b"1")):
        assert reply.headers["access-control-allow-origin"] == "*"
        assert "POST" in reply.headers["access-control-allow-methods"]


async def test_a_missing_parameter(owner: SmsOwner) -> None:
    """SM5: a request without a parameter is malformed."""
    for path in ("/secrets/web2?ownerAddress=0x", "/secrets/web3", "/secrets/web2?secretName=a"):
        reply = await owner.send("POST", path, b"v", "0x" + "0" * 130)
        assert (reply.status, reply.value["code"]) == (400, "request-malformed")


async def test_the_query_does_not_replace_the_path(owner: SmsOwner) -> None:
    """SM5: an address or name in the query does not replace the one in the path."""
    hashed = challenge(owner.address, b"one", b"v")
    path = f"/requesters/{owner.address}/secrets/one?address=0x{'11' * 20}&name=two"
    assert (await owner.send("POST", path, b"v", signed(owner.key, hashed))).status == 204
    assert await owner.has_requester("one") == 204


async def test_refused_signatures_are_limited(tmp_path: Path) -> None:
    """SM5: refused pushes are charged to the client's address, as tokens are."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(tmp_path / "data")),
        limits=Limits(unauthenticated_per_minute=5),
        sms=Sms(listen="127.0.0.1:0"),
    )
    async with embedded_node(config) as node:
        stranger = SmsOwner(tmp_path / "home", node.url, node.sms_url)
        statuses = [(await stranger.push_requester("one", b"x" * 5000)).status for _ in range(40)]
    assert statuses[0] == 401 and 429 in statuses  # now and then one is given back


async def test_copies_of_a_push_are_limited(tmp_path: Path) -> None:
    """SM5: refused repetitions of a push count towards the client's limit, even with a valid
    signature."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(tmp_path / "data")),
        limits=Limits(unauthenticated_per_minute=20),
        sms=Sms(listen="127.0.0.1:0"),
    )
    async with embedded_node(config) as node:
        owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
        await owner.enable()
        assert (await owner.push_requester("one", b"1")).status == 204
        statuses = [(await owner.push_requester("one", b"1")).status for _ in range(60)]
    assert statuses[0] == 409 and 429 in statuses


async def test_checks_are_limited(tmp_path: Path) -> None:
    """SM5: checks count towards the rate limit of public reads."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(tmp_path / "data")),
        public_spaces=PublicSpaces(requests_per_minute=5, burst=1),
        sms=Sms(listen="127.0.0.1:0"),
    )
    async with embedded_node(config) as node:
        stranger = SmsOwner(tmp_path / "home", node.url, node.sms_url)
        statuses = [await stranger.has_requester("one") for _ in range(20)]
    assert statuses[0] == 404 and 429 in statuses


async def test_the_audit_names_the_path_and_not_the_value(
    owner: SmsOwner, node: EmbeddedNode
) -> None:
    """SM13: a push has an audit record with the service as actor."""
    assert (await owner.push_requester("one", b"canary-of-the-audit")).status == 204
    did = node.services.keyring.sms_signer.did
    records = [one for one in await audit_records(node.services.store) if one.actor == did]
    assert [one.action for one in records] == ["kv.put"]
    assert records[0].subject.endswith(":secrets/kv/vault/secrets/scoped/iexec-requester/NAME_ONE")
    assert "canary" not in repr(records)


async def test_the_service_is_off_by_default(tmp_path: Path) -> None:
    """SM1: without a configured address, the node does not offer the service."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path / "data")))
    async with embedded_node(config) as node:
        assert "smsDid" not in (await send(node.url, "GET", "/info")).value
        owner = await new_owner(tmp_path / "home", node.url, "")
        assert await owner.run("sms", "enable") != 0
        assert WalletSigner(owner.key).did
