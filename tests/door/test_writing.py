"""Tests of writing through a door, also with hvac."""

import pytest
from door_stage import DoorBench, blocking, open_door
from running_node import send

from sealspace.errors import NotFound


async def test_DR13_hvac_writes_and_deletes(bench: DoorBench) -> None:
    """DR13: hvac stores with check-and-set, deletes, undeletes, and deletes for good."""
    owner, _ = await bench.owner()
    async with open_door(bench, owner, is_writable=True) as door:
        exceptions = pytest.importorskip("hvac").exceptions
        kv = door.hvac().secrets.kv.v2
        first = await blocking(
            kv.create_or_update_secret, path="API_KEY", secret={"value": "one"}, cas=0
        )
        assert first["data"]["version"] == 1
        with pytest.raises(exceptions.InvalidRequest, match="check-and-set"):
            await blocking(kv.create_or_update_secret, path="API_KEY", secret={"value": "x"}, cas=0)
        second = await blocking(
            kv.create_or_update_secret, path="API_KEY", secret={"value": "two"}, cas=1
        )
        assert second["data"]["version"] == 2
        for wrong in (1, 3):
            with pytest.raises(exceptions.InvalidRequest, match="check-and-set"):
                await blocking(
                    kv.create_or_update_secret, path="API_KEY", secret={"value": "x"}, cas=wrong
                )
        assert await owner.secrets().get("API_KEY") == "two"
        await blocking(kv.delete_latest_version_of_secret, path="API_KEY")
        with pytest.raises(NotFound):
            await owner.secrets().get("API_KEY")
        deleted = await blocking(
            kv.read_secret_version, path="API_KEY", raise_on_deleted_version=False
        )
        assert deleted["data"]["data"] is None
        assert deleted["data"]["metadata"]["deletion_time"] != ""
        await blocking(kv.undelete_secret_versions, path="API_KEY", versions=[2])
        assert await owner.secrets().get("API_KEY") == "two"
        await blocking(kv.delete_secret_versions, path="API_KEY", versions=[3])
        with pytest.raises(NotFound):
            await owner.secrets().get("API_KEY")
        await blocking(kv.delete_metadata_and_all_versions, path="API_KEY")
        with pytest.raises(NotFound):
            await owner.secrets().versions("API_KEY")


async def test_DR13_cas_without_a_value(bench: DoorBench) -> None:
    """DR13: `cas` with a number is 400 for a secret that never existed, and nothing is stored."""
    owner, _ = await bench.owner()
    async with open_door(bench, owner, is_writable=True) as door:
        for cas in (1, 5, "1", -1, True, 1.5, [1], 10**13):
            body = {"data": {"value": "x"}, "options": {"cas": cas}}
            assert (await door.send("PUT", "secret/data/NONE", body)).status == 400, cas
        with pytest.raises(NotFound):
            await owner.secrets().get("NONE")


async def test_DR13_forms(bench: DoorBench) -> None:
    """DR13: a flat mount stores one text, a json mount the object as it was sent."""
    owner, _ = await bench.owner()
    mounts = ("flat=flat", "json=json,scope=prod", "old=flat,kv=1")
    async with open_door(bench, owner, *mounts, is_writable=True) as door:
        for body in ({"a": "x"}, {"value": 7}, {"value": "x", "b": "y"}, [], "x", None):
            refused = await door.send("POST", "flat/data/A", {"data": body})
            assert refused.status == 400, body
        whole = b'{"data": {"n": 1.10, "big": 123456789012345678901234567890}}'
        headers = {"X-Vault-Token": str(door.token)}
        stored = await send(door.url, "PUT", "/v1/json/data/A", headers=headers, body=whole)
        assert stored.status == 200
        assert await owner.secrets().get("A", scope="prod") == whole[9:-1].decode()
        assert (await door.send("PUT", "old/B", {"value": "text"})).status == 204
        assert await owner.secrets().get("B") == "text"
        assert (await door.send("DELETE", "old/B")).status == 204
        assert (await door.send("DELETE", "old/B")).status == 204
        assert (await door.get("old/B")).said == (404, '{"errors":[]}')
        for name in ("PROTECTED_X", "SEALSPACE_X"):
            refused = await door.send("PUT", f"old/{name}", {"value": "text"})
            assert refused.status == 400


async def test_DR13_who_may_not_write(bench: DoorBench) -> None:
    """DR13, DR4: without --write nobody writes, and with it no machine token does."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "one")
    program, _ = await bench.machine("API_KEY", API_KEY="two")
    writes = (
        ("POST", "secret/data/API_KEY", {"data": {"value": "x"}}),
        ("DELETE", "secret/data/API_KEY", None),
        ("DELETE", "secret/metadata/API_KEY", None),
        ("POST", "secret/delete/API_KEY", {"versions": [1]}),
        ("POST", "secret/undelete/API_KEY", {"versions": [1]}),
    )
    for client, is_writable, reason in (
        (owner, False, "this door only reads"),
        (program, True, "only the owner's session writes"),
    ):
        async with open_door(bench, client, is_writable=is_writable) as door:
            for method, path, body in writes:
                refused = await door.send(method, path, body)
                assert refused.status == 403 and reason in refused.reported["errors"][0]
            asked = await door.send(
                "POST", "sys/capabilities-self", {"paths": ["secret/data/API_KEY"]}
            )
            assert asked.reported["data"]["secret/data/API_KEY"] == ["read"]
    assert await owner.secrets().get("API_KEY") == "one"


async def test_DR13_a_write_is_read_at_once(bench: DoorBench) -> None:
    """DR13: a cached value is not served after a write by the same grant."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "one")
    async with open_door(bench, owner, is_writable=True, fresh_s=60) as door:
        assert (await door.data("secret/data/API_KEY"))["data"] == {"value": "one"}
        await door.send("POST", "secret/data/API_KEY", {"data": {"value": "two"}})
        assert (await door.data("secret/data/API_KEY"))["data"] == {"value": "two"}


async def test_DR13_copies_are_renewed(bench: DoorBench) -> None:
    """DR13: who has a copy of a secret gets the new value, with and without check-and-set."""
    owner, wallet = await bench.owner()
    reader, reader_wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "one")
    await owner.sharing.share(["API_KEY"], reader.session.owner, wallet=lambda: wallet)
    # The reader's wallet accepts the share once, before the door uses it.
    await reader.sharing.received(owner.session.owner, wallet=lambda: reader_wallet)
    mount = f"secret=flat,owner={owner.session.owner}"
    async with (
        open_door(bench, owner, is_writable=True) as door,
        open_door(bench, reader, mount, is_writable=True) as shared,
    ):
        for body in (
            {"data": {"value": "two"}},
            {"data": {"value": "three"}, "options": {"cas": 2}},
        ):
            assert (await door.send("POST", "secret/data/API_KEY", body)).status == 200
            got = await shared.data("secret/data/API_KEY")
            assert got["data"] == body["data"]
        listed = await shared.send("LIST", "secret/metadata")
        assert listed.reported["data"]["keys"] == ["API_KEY"]
        refused = await shared.send("POST", "secret/data/API_KEY", {"data": {"value": "x"}})
        assert refused.status == 403


async def test_DR9_an_ended_share_ends_no_token(bench: DoorBench) -> None:
    """DR9: after a share has ended, its mount is refused, and the owner's own mount is not."""
    owner, wallet = await bench.owner()
    reader, reader_wallet = await bench.owner()
    for client in (owner, reader):
        await client.secrets().put("API_KEY", client.session.did)
    await owner.sharing.share(["API_KEY"], reader.session.owner, wallet=lambda: wallet)
    await reader.sharing.received(owner.session.owner, wallet=lambda: reader_wallet)
    mounts = (f"shared=flat,owner={owner.session.owner}", "secret=flat")
    async with open_door(bench, reader, *mounts) as door:
        assert (await door.data("shared/data/API_KEY"))["data"] == {"value": owner.session.did}
        await owner.sharing.unshare(None, did=reader.session.owner)
        for _ in range(2):
            assert (await door.get("shared/data/API_KEY")).status == 403
            own = await door.data("secret/data/API_KEY")
            assert own["data"] == {"value": reader.session.did}
