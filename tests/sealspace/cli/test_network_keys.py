"""Tests of the commands that replace and retire the key of a network, against a real node."""

import json

import pytest
from backend_desk import SECRET, Desk

from capabilities.strict_base64 import encode_standard
from sealspace.client import Client
from sealspace.session import load_session


async def test_replace_and_retire(desk: Desk) -> None:
    """A key is replaced, secrets are encrypted again, and the former key is destroyed (EN35, EN38,
    EN39)."""
    await desk.log_in()
    for name in ("API_KEY", "OTHER"):
        assert (await desk.run("secret", "put", name, given=SECRET)).status == 0
    ran = await desk.run("network", "rotate", "--json")
    assert ran.status == 0, ran
    document = json.loads(ran.out)
    assert (document["keyVersion"], document["encryptedAgain"]) == (2, 2)
    assert document["failed"] == []
    shown = json.loads((await desk.run("network", "show", "--json")).out)
    assert shown["fingerprint"] == document["fingerprint"]
    assert [one["state"] for one in shown["keys"]] == ["accepted", "newest"]
    assert "former keys" in (await desk.run("network", "show")).out
    ran = await desk.run("network", "reencrypt", "--json")
    assert json.loads(ran.out)["encryptedBefore"] == 2
    asked = await desk.run("network", "retire", "--version", "1")
    assert asked.status == 2  # nobody confirms
    assert "version 1 of it" in asked.err
    ran = await desk.run("network", "retire", "--version", "1", "--yes", "--json")
    assert ran.status == 0, ran
    assert json.loads(ran.out) == {
        "network": shown["network"],
        "keyVersion": 1,
        "currentValues": 0,
        "formerValues": 2,
        "copies": 0,
    }
    assert (await desk.run("secret", "get", "API_KEY")).out == SECRET
    shown = json.loads((await desk.run("network", "show", "--json")).out)
    assert [one["state"] for one in shown["keys"]] == ["retired", "newest"]


async def test_current_values_are_not_lost_by_accident(desk: Desk) -> None:
    """A key to which current values are encrypted is destroyed only on request (EN38)."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    assert (await desk.run("network", "rotate", "--key-only")).status == 0
    refused = await desk.run("network", "retire", "--version", "1", "--yes")
    assert refused.status == 2
    assert "1 current values" in refused.err
    assert "network reencrypt" in refused.next
    assert (await desk.run("secret", "get", "API_KEY")).out == SECRET
    ran = await desk.run("network", "retire", "--version", "1", "--yes", "--lose-values")
    assert ran.status == 0, ran
    assert (await desk.run("secret", "get", "API_KEY")).status != 0


async def test_a_key_that_an_unreadable_value_may_need(desk: Desk) -> None:
    """A key is not destroyed before every value was read, with --lose-values neither, and all
    values that cannot be read are named (EN38)."""
    await desk.log_in()
    for name in ("LARGE", "LARGER", "SMALL"):
        assert (await desk.run("secret", "put", name, given="x" * 100_000)).status == 0
    files = [path for path in desk.folder.rglob("data/blobs/**/*") if path.is_file()]
    assert len(files) == 3
    assert (await desk.run("network", "rotate", "--key-only")).status == 0
    for path in files[:2]:
        path.unlink()
    retire = ("network", "retire", "--version", "1", "--yes", "--lose-values")
    refused = await desk.run(*retire, "--quiet")
    assert refused.status == 2, refused
    assert refused.err.count("cannot be read: vault/secrets/") == 2
    assert "cannot read 2 values" in refused.err and "was not destroyed" in refused.err
    assert "sealspace admin check" in refused.next and "--purge" in refused.next
    shown = json.loads((await desk.run("network", "show", "--json")).out)
    assert [key["state"] for key in shown["keys"]] == ["retiring", "newest"]
    for line in refused.err.splitlines():
        if line.startswith("cannot be read: vault/secrets/"):
            name = line.removeprefix("cannot be read: vault/secrets/").split()[0]
            assert (await desk.run("secret", "delete", name, "--purge", "--yes")).status == 0
    ran = await desk.run(*retire, "--json")
    assert ran.status == 0, ran
    assert json.loads(ran.out)["currentValues"] == 1


@pytest.mark.parametrize("command", [("rotate",), ("rotate", "--json"), ("reencrypt", "--quiet")])
async def test_values_that_are_not_encrypted_again(desk: Desk, command: tuple[str, ...]) -> None:
    """Both commands name the values that stay as they are, and end with status 1 (EN39)."""
    await desk.log_in()
    for name in ("API_KEY", "OTHER"):
        await desk.run("secret", "put", name, given=SECRET)
    async with Client(desk.node, session=load_session(desk.home / "session.json")) as owner:
        kv = owner.kv("secrets")
        whole = json.loads((await kv.get("vault/secrets/OTHER")).body)
        whole["ciphertext"] = encode_standard(bytes(40))
        await kv.put("vault/secrets/OTHER", json.dumps(whole))
    if "reencrypt" in command:
        assert (await desk.run("network", "rotate", "--key-only")).status == 0
    ran = await desk.run("network", *command)
    assert ran.status == 1, ran
    assert "not encrypted again: vault/secrets/OTHER: " in ran.err
    assert "API_KEY" not in ran.err
    assert "1 values are still encrypted to a former key" in ran.err
    assert "sealspace network reencrypt default" in ran.next
    if "--json" in command:
        (failed,) = json.loads(ran.out)["failed"]
        assert failed["path"] == "vault/secrets/OTHER"
    await desk.run("secret", "put", "OTHER", given=SECRET)
    assert (await desk.run("network", "reencrypt")).status == 0


@pytest.mark.parametrize("version", ["1", "2"])
async def test_keys_that_cannot_be_retired(desk: Desk, version: str) -> None:
    """The newest key and an unknown one are not retired (EN38)."""
    await desk.log_in()
    ran = await desk.run("network", "retire", "--version", version, "--yes")
    assert ran.status != 0
    assert "cannot be retired" in ran.err


async def test_renew_the_copies_for_a_person(desk: Desk) -> None:
    """Copies are renewed for a person who has replaced the key, by one command (SH15)."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    owner = json.loads((await desk.run("whoami", "--json")).out)["owner"]
    friend = ("--home", str(desk.folder / "friend"))
    assert (await desk.run("login", desk.node, "--new", *friend, home=False)).status == 0
    ran = await desk.run("whoami", "--json", *friend, home=False)
    did = json.loads(ran.out)["owner"]
    assert (await desk.run("secret", "share", "API_KEY", "--with", did)).status == 0
    assert (await desk.run("network", "rotate", *friend, home=False)).status == 0
    told = await desk.run("network", "retire", "--version", "1", *friend, home=False)
    assert f"copies that {owner} shares with you" in told.err
    ran = await desk.run("secret", "share", "API_KEY", "--with", did)
    assert ran.status != 0
    assert f"sealspace team renew {did}" in ran.next
    ran = await desk.run("team", "renew", did, "--json")
    assert json.loads(ran.out) == {"renewed": [{"team": None}]}
    assert (await desk.run("team", "renew", did, "--json")).out.strip() == '{"renewed":[]}'
    ran = await desk.run("network", "retire", "--version", "1", "--yes", *friend, home=False)
    assert ran.status == 0, ran
    ran = await desk.run("secret", "get", "API_KEY", "--from", owner, *friend, home=False)
    assert ran.out == SECRET, ran
