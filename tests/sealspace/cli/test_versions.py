"""Tests of `sealspace secret versions`, `rollback` and `restore`."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from owner_desk import OwnerDesk, Ran, owner_desk


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """An owner who has logged in."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        yield desk


async def put(desk: OwnerDesk, *values: str, name: str = "API_KEY") -> Ran:
    """Store values one after the other."""
    for value in values:
        ran = await desk.run("secret", "put", name, given=value)
    return ran


async def test_a_wrong_put_is_undone(desk: OwnerDesk) -> None:
    """The message of a put names the command that undoes it, and that command does."""
    ran = await put(desk, "right", "wrong")
    undo = ran.err.splitlines()[0].partition("; to undo this: ")[2]
    assert undo == "sealspace secret rollback API_KEY 1"
    assert await desk.run(*undo.split()[1:]) == Ran(0, "", "stored version 1 of API_KEY again\n")
    assert await desk.read("secret", "get", "API_KEY") == b"right"
    assert await desk.read("secret", "get", "API_KEY", "--version", "2") == b"wrong"


async def test_SH6_a_rollback_decrypts_only_for_copies(desk: OwnerDesk) -> None:
    """Without copies nothing is decrypted, so a rollback needs no key of the owner's network. The
    node's receipts show which keys were released."""
    await put(desk, "right", "wrong")
    before = await desk.read("receipts", "list", "--all", "--json")
    assert (await desk.run("secret", "rollback", "API_KEY", "1")).status == 0
    assert await desk.read("receipts", "list", "--all", "--json") == before
    assert await desk.read("secret", "get", "API_KEY") == b"right"
    assert await desk.read("receipts", "list", "--all", "--json") != before


async def test_versions_are_listed(desk: OwnerDesk) -> None:
    """The list has each version's number and times, and who stored it, the newest first."""
    await put(desk, "one", "two")
    lines = (await desk.run("secret", "versions", "API_KEY")).out.splitlines()
    numbers_and_storers = [(line.split()[0], line.split()[-1]) for line in lines]
    assert numbers_and_storers == [("2", "you"), ("1", "you")]
    said = json.loads((await desk.run("secret", "versions", "API_KEY", "--json")).out)
    assert [(one["version"], one["replacedAt"] is None) for one in said] == [(2, True), (1, False)]
    missing = await desk.run("secret", "versions", "API_KEX")
    assert (missing.status, missing.happened) == (21, "there is no secret API_KEX")


@pytest.mark.parametrize(
    "command", [("get", "API_KEY", "--version", "9"), ("rollback", "API_KEY", "9")]
)
async def test_a_version_that_is_not_kept(desk: OwnerDesk, command: tuple[str, ...]) -> None:
    """The error lists the versions that are kept."""
    await put(desk, "one", "two")
    ran = await desk.run("secret", *command)
    assert ran.status == 21
    assert ran.happened.endswith("version 9 is not kept (kept: 1, 2)")
    assert ran.next == "sealspace secret versions API_KEY"


async def test_a_deleted_secret_is_restored(desk: OwnerDesk) -> None:
    """The message of a deletion names the command that undoes it, with the scope; a secret that is
    not deleted is not restored."""
    scope = ("--scope", "ci")
    await desk.run("secret", "put", "API_KEY", *scope, given="value")
    ran = await desk.run("secret", "delete", "API_KEY", *scope)
    undo = "sealspace secret restore API_KEY --scope ci"
    assert ran.err == f"deleted API_KEY; to undo this within 7 days: {undo}\n"
    assert await desk.run(*undo.split()[1:]) == Ran(0, "", "restored API_KEY\n")
    assert await desk.read("secret", "get", "API_KEY", *scope) == b"value"
    again = await desk.run(*undo.split()[1:])
    assert (again.status, again.next) == (15, "sealspace secret versions API_KEY --scope ci")


async def test_a_purge_is_final(desk: OwnerDesk) -> None:
    """After `--purge` no version of the secret can be restored."""
    await put(desk, "one", "two")
    assert (await desk.run("secret", "delete", "API_KEY")).status == 0
    ran = await desk.run("secret", "delete", "API_KEY", "--purge")
    assert (ran.status, ran.err) == (0, "deleted API_KEY and all its versions for good\n")
    for verb in ("restore", "versions"):
        assert (await desk.run("secret", verb, "API_KEY")).status == 21
