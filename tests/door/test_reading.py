"""Tests of reading through a door, also with hvac, a client of Vault."""

import json

import pytest
from door_stage import DoorBench, blocking, open_door
from running_node import send

from sealspace.client import Client


async def _owner(bench: DoorBench) -> Client:
    owner, _ = await bench.owner()
    await owner.secrets().put_many({"API_KEY": "open sesame", "CERT": b"\x00\xff"})
    await owner.secrets().put("DB", '{"user": "app", "port": 5432}', scope="prod")
    return owner


async def _machine(bench: DoorBench) -> Client:
    """Return a client with a machine token for one of two secrets."""
    program, _ = await bench.machine("API_KEY", API_KEY="open sesame", OTHER="not granted")
    return program


# --- hvac -----------------------------------------------------------------------------------------


async def test_DR1_hvac_reads_and_lists(bench: DoorBench) -> None:
    """DR1: hvac reads, lists and asks about its token, as at Vault."""
    owner = await _owner(bench)
    async with open_door(bench, owner, "secret=flat", "prod=json,scope=prod") as door:
        client = door.hvac()
        assert await blocking(client.is_authenticated)
        kv = client.secrets.kv.v2
        read = await blocking(kv.read_secret_version, path="API_KEY", raise_on_deleted_version=True)
        assert read["data"]["data"] == {"value": "open sesame"}
        assert read["data"]["metadata"]["version"] == 1
        database = await blocking(
            kv.read_secret_version,
            path="DB",
            mount_point="prod",
            raise_on_deleted_version=True,
        )
        assert database["data"]["data"] == {"user": "app", "port": 5432}
        listed = await blocking(kv.list_secrets, path="")
        assert listed["data"]["keys"] == ["API_KEY", "CERT", "prod/"]
        metadata = await blocking(kv.read_secret_metadata, path="API_KEY")
        assert metadata["data"]["current_version"] == 1
        assert (await blocking(client.sys.read_health_status, method="GET"))["sealed"] is False
        assert await blocking(client.sys.is_initialized)
        abilities = await blocking(
            client.sys.get_capabilities, paths=["secret/data/API_KEY", "other/x"]
        )
        assert "read" in abilities["data"]["secret/data/API_KEY"]
        assert abilities["data"]["other/x"] == ["deny"]


async def test_DR1_hvac_gets_its_own_errors(bench: DoorBench) -> None:
    """DR12: what is missing is hvac's InvalidPath, and a wrong token its Forbidden."""
    owner = await _owner(bench)
    async with open_door(bench, owner) as door:
        exceptions = pytest.importorskip("hvac").exceptions
        kv = door.hvac().secrets.kv.v2
        with pytest.raises(exceptions.InvalidPath):
            await blocking(kv.read_secret_version, path="NONE", raise_on_deleted_version=True)
        stranger = door.hvac()
        stranger.token = "sdt_" + "A" * 43
        with pytest.raises(exceptions.Forbidden):
            await blocking(
                stranger.secrets.kv.v2.read_secret_version,
                path="API_KEY",
                raise_on_deleted_version=True,
            )
        assert not await blocking(stranger.is_authenticated)


# --- forms ----------------------------------------------------------------------------------------


async def test_DR7_forms_of_mounts(bench: DoorBench) -> None:
    """DR7: a flat mount never takes a text apart, and a json mount refuses what is no object."""
    owner = await _owner(bench)
    account = '{"type": "service_account", "big": 123456789012345678901234567890, "x": 1e400}'
    await owner.secrets().put_many({"GOOGLE": account, "LIST": "[1]", "DEEP": '{"a":' * 9999})
    async with open_door(bench, owner, "flat=flat", "json=json", "old=flat,kv=1") as door:
        assert (await door.data("flat/data/GOOGLE"))["data"] == {"value": account}
        assert (await door.data("flat/data/CERT"))["data"] == {"value": "AP8="}
        assert (await door.data("old/GOOGLE")) == {"value": account}
        whole = await door.get("json/data/GOOGLE")
        assert '"big":123456789012345678901234567890' in whole.text  # digit by digit
        for name in ("API_KEY", "LIST", "CERT", "DEEP"):
            refused = await door.get(f"json/data/{name}")
            assert refused.status == 400
            assert "is not the text of a JSON object" in refused.reported["errors"][0]
            assert "sesame" not in refused.text


async def test_DR5_paths_and_scopes(bench: DoorBench) -> None:
    """DR5: paths name secrets of the mount, and nothing else."""
    owner = await _owner(bench)
    async with open_door(bench, owner, "secret=flat", "prod=flat,scope=prod") as door:
        assert (await door.get("secret/data/prod/DB")).status == 200
        assert (await door.get("prod/data/DB")).status == 200
        assert (await door.get("prod/data/API_KEY")).status == 404
        for path in ("prod/data/ci/DB", "secret/data/app/config", "secret/data/shared/x/DB"):
            refused = await door.get(path)
            assert refused.status == 400, path
            assert "; next: " in refused.reported["errors"][0]
        outside = await door.get("prod/data/ci/DB")
        assert "ci/DB is outside the mount prod/" in outside.reported["errors"][0]
        listed = await door.send("LIST", "prod/metadata")
        assert listed.reported["data"]["keys"] == ["DB"]
        assert (await door.get("secret/metadata/prod?list=true")).reported["data"] == {
            "keys": ["DB"]
        }
        assert (await door.send("LIST", "secret/metadata/none/")).said == (404, '{"errors":[]}')
        assert (await door.send("LIST", "prod/metadata/ci")).status == 400


async def test_DR8_versions_of_an_owner(bench: DoorBench) -> None:
    """DR8: an owner's session reads versions by the node's numbers."""
    owner = await _owner(bench)
    await owner.secrets().put("API_KEY", "second")
    async with open_door(bench, owner) as door:
        current = await door.data("secret/data/API_KEY")
        assert (current["data"]["value"], current["metadata"]["version"]) == ("second", 2)
        first = await door.data("secret/data/API_KEY?version=1")
        assert (first["data"]["value"], first["metadata"]["version"]) == ("open sesame", 1)
        assert (await door.get("secret/data/API_KEY?version=9")).status == 404
        metadata = await door.data("secret/metadata/API_KEY")
        assert [*metadata["versions"]] == ["2", "1"] and metadata["current_version"] == 2


# --- machine tokens -------------------------------------------------------------------------------


async def test_DR4_a_machine_token(bench: DoorBench) -> None:
    """DR4: a machine token reads and lists its own secrets, and has no versions."""
    program = await _machine(bench)
    async with open_door(bench, program) as door:
        read = await door.data("secret/data/API_KEY")
        assert read["data"] == {"value": "open sesame"}
        # Its number is the second at which the value was written.
        number = read["metadata"]["version"]
        assert number == int(bench.clock.now())
        same = await door.get(f"secret/data/API_KEY?version={number}")
        assert same.reported["data"]["data"] == {"value": "open sesame"}
        assert (await door.get("secret/data/API_KEY?version=1")).status == 403
        assert (await door.data("secret/metadata/API_KEY"))["current_version"] == number
        refused = await door.get("secret/data/OTHER")
        assert refused.status == 403
        assert "does not include OTHER" in refused.reported["errors"][0]
        listed = await door.send("LIST", "secret/metadata")
        assert listed.reported["data"]["keys"] == ["API_KEY"]


async def test_DR5_a_mount_of_another_owner(bench: DoorBench) -> None:
    """DR5: a machine token reads nothing at a mount that names another owner."""
    program = await _machine(bench)
    other, _ = await bench.owner()
    mount = f"secret=flat,owner={other.session.owner}"
    async with open_door(bench, program, mount) as door:
        for method, path in (("GET", "secret/data/API_KEY"), ("LIST", "secret/metadata")):
            refused = await door.send(method, path)
            assert refused.status == 403 and "has secrets of" in refused.reported["errors"][0]


async def test_DR9_a_token_ends_with_its_grant(bench: DoorBench) -> None:
    """DR9: a door token states the end of its grant, cannot move it, and ends with it."""
    program = await _machine(bench)
    async with open_door(bench, program) as door:
        own = await door.data("auth/token/lookup-self")
        assert own["ttl"] == 30 * 86_400 and own["renewable"] is False
        bench.clock.advance(29 * 86_400)
        renewed = await door.send("POST", "auth/token/renew-self", {"increment": "9000h"})
        assert renewed.reported["auth"]["lease_duration"] == 86_400
        assert "does not move this end" in renewed.reported["warnings"][0]
        bench.clock.advance(86_400)
        assert (await door.get("auth/token/lookup-self")).status == 403
        assert (await door.get("secret/data/API_KEY")).status == 403


async def test_DR9_a_token_that_its_caller_ends(bench: DoorBench) -> None:
    """DR9: a revoked door token is refused at once."""
    program = await _machine(bench)
    async with open_door(bench, program) as door:
        assert (await door.send("POST", "auth/token/revoke-self")).status == 204
        assert (await door.get("secret/data/API_KEY")).status == 403


async def test_DR1_what_is_not_served(bench: DoorBench) -> None:
    """DR1: other paths are 404 in the form of the API, those of known features by name."""
    owner = await _owner(bench)
    async with open_door(bench, owner) as door:
        for path, reason in (
            ("sys/policies/acl/x", "no policies"),
            ("sys/wrapping/lookup", "wraps no answers"),
            ("transit/keys/x", "does not serve transit/keys/x"),
            ("secret/config", "does not serve secret/config"),
        ):
            reply = await door.get(path)
            assert reply.status == 404 and reason in reply.reported["errors"][0], path
        assert (await door.send("DELETE", "sys/capabilities-self")).status == 405
        shown = await door.data("sys/internal/ui/mounts/secret/API_KEY")
        assert shown["path"] == "secret/" and shown["options"] == {"version": "2"}
        assert (await door.get("sys/internal/ui/mounts/none/X")).status == 403
        outside = await send(door.url, "GET", "/ui/")
        assert outside.status == 404 and json.loads(outside.text)["errors"]


async def test_DR6_nothing_without_a_token(bench: DoorBench) -> None:
    """DR6: without a token, only health and the seal status are answered."""
    owner = await _owner(bench)
    async with open_door(bench, owner, has_own_grant=False) as door:
        for path in (
            "secret/data/API_KEY",
            "secret/metadata/API_KEY",
            "auth/token/lookup-self",
            "sys/internal/ui/mounts",
            "sys/internal/ui/mounts/secret",
        ):
            reply = await door.get(path)
            assert reply.status == 403, path
            assert reply.reported["errors"][0].startswith("permission denied: ")
        assert (await door.get("sys/health")).status == 200
        assert (await door.get("sys/seal-status")).status == 200
