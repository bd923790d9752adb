"""Tests of the HTTP interface to versions of values (M56 to M58)."""

import json
import secrets
from copy import copy
from pathlib import Path

import pytest
from kv_client import FORM_TYPE, Owner, etag, form, owner_at
from running_node import Reply, wallet_token
from tests_support import FixedClock

from capabilities.signatures import Ed25519Signer
from node.config.tree import Hosting, Http
from node.operations.values.admin_quota import show_quota
from sealspace.wallets import new_wallet
from spaces.keyspace import space_keys
from spaces.store.contract import counter_of
from spaces.values.metadata import path_bytes, row_bytes

NAME = "vault/secrets/API_KEY"


async def put(owner: Owner, *bodies: bytes, path: str = NAME) -> None:
    for body in bodies:
        reply = await owner.invoke(("put", path), body=body, space="secrets")
        assert reply.status == 200


async def ask(owner: Owner, verb: str, version: object, path: str = NAME) -> Reply:
    headers = {"x-sealspace-version": str(version)}
    return await owner.invoke((verb, path), headers=headers, space="secrets")


async def test_version_comes_back(owner: Owner) -> None:
    """A client can read a replaced value by its version number, with its original headers (M56)."""
    await owner.invoke(
        ("put", NAME), body=b"one", space="secrets", headers={"X-TinyCloud-Meta-A": "first"}
    )
    await put(owner, b"two")
    reply = await ask(owner, "get", 1)
    assert (reply.status, reply.body) == (200, b"one")
    shown = {name: reply.headers[name] for name in ("etag", "x-sealspace-version")}
    assert shown == {"etag": etag(b"one"), "x-sealspace-version": "1"}
    assert reply.headers["x-tinycloud-meta-a"] == "first"
    assert "last-modified" in reply.headers
    current = await ask(owner, "get", 2)
    assert current.body == b"two"
    assert current.headers["x-sealspace-version"] == "2"
    assert (await ask(owner, "metadata", 1)).headers["etag"] == etag(b"one")


async def test_versions_are_listed(owner: Owner) -> None:
    """A list of versions has the current and the former values, newest first, with times and who
    stored them (M56, M62)."""
    await put(owner, b"one", b"twotwo")
    now = int(owner.clock.now())
    assert json.loads((await ask(owner, "metadata", "all")).body) == [
        {
            "version": 2,
            "etag": etag(b"twotwo"),
            "sizeBytes": 6,
            "storedAt": now,
            "storedBy": owner.signer.did,
            "replacedAt": None,
            "current": True,
        },
        {
            "version": 1,
            "etag": etag(b"one"),
            "sizeBytes": 3,
            "storedAt": now,
            "storedBy": owner.signer.did,
            "replacedAt": now,
            "current": False,
        },
    ]


async def test_deleted_value_is_restored(owner: Owner) -> None:
    """A client can list and read the versions of a deleted value, and a new write continues the
    numbering (M56)."""
    await put(owner, b"one", b"two")
    await owner.invoke(("del", NAME), space="secrets")
    listed = json.loads((await ask(owner, "metadata", "all")).body)
    assert [(one["version"], one["current"]) for one in listed] == [(2, False), (1, False)]
    assert (await ask(owner, "get", 2)).body == b"two"
    await put(owner, b"two")
    assert (await ask(owner, "get", 3)).body == b"two"


async def test_version_that_is_not_kept(owner: Owner) -> None:
    """A request for a missing version is refused, and the answer lists the last ten versions (M56,
    ST19)."""
    await put(owner, *[b"%d" % at for at in range(1, 13)])
    kept = ", ".join(map(str, range(2, 13)))
    for number in (1, 99):
        reply = await ask(owner, "get", number)
        assert reply.said == (404, f"version {number} is not kept (kept: {kept})")
    assert (await ask(owner, "get", 1, "vault/secrets/NONE")).said == (
        404,
        "version 1 is not kept (kept: none)",
    )
    assert (await ask(owner, "metadata", "all", "vault/secrets/NONE")).status == 404


async def test_purge(owner: Owner) -> None:
    """A purge removes a value and all its versions, even if the value was deleted before (M57)."""
    headers, remove = {"x-sealspace-purge": "true"}, ("del", NAME)
    await put(owner, b"one", b"two")
    reply = await owner.invoke(remove, headers=headers, space="secrets")
    assert (reply.status, reply.headers["etag"]) == (200, etag(b"two"))
    assert (await ask(owner, "metadata", "all")).status == 404
    await put(owner, b"three")
    await owner.invoke(remove, space="secrets")
    assert (await owner.invoke(remove, headers=headers, space="secrets")).said == (200, "")
    assert (await ask(owner, "get", 1)).status == 404
    gone = await owner.invoke(("del", NAME + "2"), headers=headers, space="secrets")
    assert gone.said == (404, f"No Such Key: {NAME}2")
    own = space_keys(owner.space_named("secrets"))
    records = (await owner.node.services.store.read((own.versions, own.usage, own.rows))).records
    # The row of the deleted path is left (CF6).
    assert [counter_of(record) for record in records] == [0, 0, path_bytes(NAME)]


@pytest.mark.parametrize("call", ["get", "metadata", "all", "purge"])
async def test_versions_are_for_the_owner_in_person(owner: Owner, call: str) -> None:
    """A delegate with every KV ability on a key can neither read nor remove versions (M58)."""
    await put(owner, b"one", b"two")
    delegate = copy(owner)
    delegate.signer = Ed25519Signer(secrets.token_bytes(32))
    verbs = [(verb, NAME) for verb in ("get", "metadata", "del", "put")]
    grant = owner.token(verbs, space="secrets", audience=delegate.signer.did)
    async with owner.session.post(
        f"{owner.node.url}/delegate", headers={"Authorization": grant}
    ) as answer:
        assert answer.status == 200
    verb = {"all": "metadata", "purge": "del"}.get(call, call)
    resource = f"{owner.space_named('secrets').text}/kv/{NAME}"
    token = delegate.token((), more={resource: f"tinycloud.kv/{verb}"}, proofs=(grant,))
    headers = {"x-sealspace-purge": "true"}
    if call != "purge":
        headers = {"x-sealspace-version": "all" if call == "all" else "1"}
    reply = await owner.invoke(token=token, headers=headers)
    assert reply.said == (403, "versions are for the owner in person")
    assert (await ask(owner, "get", 1)).body == b"one"


async def test_M62_a_delegate_who_replaces_a_value(owner: Owner) -> None:
    """A delegate who signed in nowhere is named by the key; no read or write says who stored (M62).

    Of a deletion nothing is said: the version keeps the name of who stored it."""
    await put(owner, b"one")
    delegate = copy(owner)
    delegate.signer = Ed25519Signer(secrets.token_bytes(32))
    grant = owner.token([("put", NAME)], space="secrets", audience=delegate.signer.did)
    async with owner.session.post(
        f"{owner.node.url}/delegate", headers={"Authorization": grant}
    ) as answer:
        assert answer.status == 200
    resource = f"{owner.space_named('secrets').text}/kv/{NAME}"
    token = delegate.token((), more={resource: "tinycloud.kv/put"}, proofs=(grant,))
    written = await owner.invoke(token=token, body=b"two")
    assert written.status == 200
    read = [await owner.invoke((verb, NAME), space="secrets") for verb in ("get", "metadata")]
    for reply in (written, *read, await ask(owner, "get", 2)):
        assert "did:" not in f"{reply.headers}"
    await owner.invoke(("del", NAME), space="secrets")
    listed = json.loads((await ask(owner, "metadata", "all")).body)
    assert [one["storedBy"] for one in listed] == [delegate.signer.did, owner.signer.did]


async def test_M62_an_owner_who_cites_somebody_elses_sign_in(owner: Owner) -> None:
    """A write by the owner's own key is the owner's, whatever it cites (M62)."""
    wallet = new_wallet()
    theirs = {f"tinycloud:{wallet.did[4:]}:default/kv": ["tinycloud.kv/put"]}
    sign_in = wallet_token(wallet, owner.signer.did_url, theirs, ttl_s=300)
    async with owner.session.post(
        f"{owner.node.url}/delegate", headers={"Authorization": sign_in}
    ) as answer:
        assert answer.status == 200
    token = owner.token([("put", NAME)], space="secrets", proofs=(sign_in,))
    assert (await owner.invoke(token=token, body=b"one")).status == 200
    listed = json.loads((await ask(owner, "metadata", "all")).body)
    assert [one["storedBy"] for one in listed] == [owner.signer.did]


NUMBER = "x-sealspace-version must be a positive integer"
ONE_READ = "x-sealspace-version requires exactly one KV get or metadata"
ONE_DELETE = "x-sealspace-purge requires exactly one KV delete, and true"
MALFORMED: dict[str, tuple[list[str], dict[str, str], str]] = {
    "zero": (["get"], {"x-sealspace-version": "0"}, NUMBER),
    "a word": (["metadata"], {"x-sealspace-version": "newest"}, NUMBER),
    "all of a get": (["get"], {"x-sealspace-version": "all"}, NUMBER),
    "a put": (["put"], {"x-sealspace-version": "1"}, ONE_READ),
    "two reads": (["get", "metadata"], {"x-sealspace-version": "1"}, ONE_READ),
    "a purged put": (["put"], {"x-sealspace-purge": "true"}, ONE_DELETE),
    "a purge of no": (["del"], {"x-sealspace-purge": "no"}, ONE_DELETE),
}


@pytest.mark.parametrize(("verbs", "headers", "text"), MALFORMED.values(), ids=MALFORMED)
async def test_malformed_headers(
    owner: Owner, verbs: list[str], headers: dict[str, str], text: str
) -> None:
    """A request with a malformed or misplaced version header is refused and writes nothing
    (M59)."""
    await put(owner, b"one")
    wanted = [(verb, NAME) for verb in verbs]
    reply = await owner.invoke(*wanted, body=b"two", headers=headers, space="secrets")
    assert reply.said == (400, text)
    assert (await owner.invoke(("get", NAME), space="secrets")).body == b"one"


@pytest.mark.parametrize("space", ["secrets", "default"])
async def test_other_values_meet_their_quota_as_before(
    tmp_path: Path, clock: FixedClock, space: str
) -> None:
    """A value outside the versioned prefixes keeps no versions, and its space may fill to the exact
    limit (M51, ST20)."""
    http, hosting = Http(port=0, drain_s=0), Hosting(default_quota_bytes=1_200_000)
    async with owner_at(tmp_path, clock, http=http, hosting=hosting) as owner:
        await put(owner, b"v" * 1000, b"w" * 1000)
        body, rest = b"b" * 1_000_000, 200_000 - (1000 if space == "secrets" else 0)
        for _ in range(3):
            assert (await owner.invoke(("put", "a"), body=body, space=space)).status == 200
        reply = await owner.invoke(("put", "b"), body=b"b" * (rest + 1), space=space)
        assert reply.status == 413
        assert (await owner.invoke(("put", "b"), body=b"b" * rest, space=space)).status == 200
        assert (await owner.invoke(("del", "a"), space=space)).status == 200
        assert (await ask(owner, "metadata", "all", "a")).status == 404
        listed = json.loads((await ask(owner, "metadata", "all")).body)
    # The space with versions is full, so the version was removed.
    assert [one["version"] for one in listed] == ([2] if space == "secrets" else [2, 1])


async def test_versions_do_not_outgrow_the_space(small: Owner) -> None:
    """In a space full of versions, writing and deleting large values does not grow the stored
    versions (ST20)."""
    paths = [f"vault/secrets/{at:03}" for at in range(250)]
    for at in range(4):
        token = small.token([("put", path) for path in paths], space="secrets")
        values = form(dict.fromkeys(paths, b"%d" % at))
        reply = await small.invoke(body=values, headers=FORM_TYPE, token=token)
        assert reply.status == 200
    for at in range(5):
        await put(small, b"%d" % at * 190_000, path=f"vault/secrets/LARGE_{at}")
        await small.invoke(("del", f"vault/secrets/LARGE_{at}"), space="secrets")
    own = space_keys(small.space_named("secrets"))
    (kept,) = (await small.node.services.store.read((own.versions,))).records
    assert counter_of(kept) <= 2 * 200_000


async def test_versions_are_shown_apart(owner: Owner) -> None:
    """The usage of a space shows the size of versions separately from the size of values (ST20)."""
    await put(owner, b"one", b"twotwo")
    space = owner.space_named("secrets").text
    more = {f"{space}/space/secrets": "tinycloud.space/info"}
    shown = (await owner.invoke(more=more)).value
    versions_bytes = row_bytes(NAME, {}) + len(b"one")
    assert shown["usageBytes"] == 6
    assert shown["versionsBytes"] == versions_bytes
    view = await show_quota(owner.node.services.store, owner.node.services.config, space)
    assert view.current_usage_bytes == 6
    assert view.versions_bytes == versions_bytes


async def test_batch_keeps_all_former_values(owner: Owner) -> None:
    """A batch that replaces or deletes 250 secrets keeps the former value of each (ST6, ST19)."""
    paths = [f"vault/secrets/{at:03}" for at in range(250)]
    for body in (b"one", b"two"):
        token = owner.token([("put", path) for path in paths], space="secrets")
        reply = await owner.invoke(
            body=form(dict.fromkeys(paths, body)), headers=FORM_TYPE, token=token
        )
        assert reply.status == 200
    token = owner.token([("del", path) for path in paths], space="secrets")
    assert (await owner.invoke(token=token)).status == 200
    for path in paths[:: len(paths) // 4]:
        listed = json.loads((await ask(owner, "metadata", "all", path)).body)
        assert [one["version"] for one in listed] == [2, 1]
