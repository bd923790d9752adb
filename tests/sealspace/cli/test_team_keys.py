"""The commands with a team's own key: `sealspace team create` and `team recover`."""

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from owner_desk import Ran
from team_desk import Team, people_desk

from sealspace.documents.recovery_sheets import OwnerRecovery, parse_sheet

SHARES = ("--shares", "3", "--threshold", "2")


@pytest.fixture
async def people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Team]:
    """Alice alone, before there is a team."""
    async with people_desk(tmp_path, capsys, monkeypatch) as people:
        yield people


async def made(people: Team, *more: str) -> list[Path]:
    """Create the team with its key in shares, and return the files."""
    folder = people.folder / "shares"
    ran = await people.must(
        "alice", "team", "create", "shop", "--out", str(folder), *SHARES, "--json", *more
    )
    people.did = json.loads(ran.out)["team"]
    return sorted(folder.iterdir())


async def recovered(people: Team, person: str, *files: Path, more: tuple[str, ...] = ()) -> Ran:
    return await people.run(person, "team", "recover", *map(str, files), *more)


def words_are_in(ran: Ran, files: list[Path]) -> bool:
    """Return whether the first words of a share are in the output."""
    printed = " ".join(f"{ran.out} {ran.err}".split())
    lines = [parse_sheet(path.read_bytes()).share.words for path in files]
    return any(" ".join(words[4:8]) in printed for words in lines)


async def test_RV10_a_teams_key_in_shares(people: Team) -> None:
    """RV10: each share is in a private file, and the key is in no file."""
    files = await made(people)
    assert [path.name for path in files] == [f"share-{n}-of-3.txt" for n in (1, 2, 3)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    recovery = OwnerRecovery()
    for path in files[:2]:
        recovery.add_sheet(parse_sheet(path.read_bytes()), name=path.name)
    key = recovery.key(owner=people.did)
    found = [path for path in people.folder.rglob("*") if path.is_file()]
    assert not [path for path in found if key in path.read_bytes()]
    assert not [path for path in found if key.hex().encode() in path.read_bytes()]
    assert "sealspace team recover FILE" in files[0].read_text()
    checked = await people.must(
        "alice", "recovery", "check", str(files[0]), str(files[2]), "--json"
    )
    assert json.loads(checked.out)["owner"] == people.did


async def test_create_needs_a_place_for_the_key(people: Team) -> None:
    """Without --out and --key-file, and with both, the command is refused and names both."""
    create = ("team", "create", "shop")
    folder, key = str(people.folder / "shares"), str(people.folder / "shop.key")
    neither = await people.run("alice", *create)
    assert neither.status == 2 and "--out" in neither.err and "--key-file" in neither.err
    both = await people.run("alice", *create, "--out", folder, "--key-file", key)
    assert both.status == 2 and "cannot be combined" in both.happened
    useless = await people.run("alice", *create, "--key-file", key, "--threshold", "2")
    assert useless.status == 2 and "--threshold is for shares" in useless.happened
    too_high = await people.run("alice", *create, "--out", folder, "--threshold", "6")
    assert too_high.status == 2
    assert not Path(folder).exists() and not Path(key).exists()


async def test_RV16_an_interrupted_creation_is_completed(people: Team) -> None:
    """RV16: the same folder makes the same team; another name and an incomplete set are refused."""
    files = await made(people)
    first = people.did
    assert await made(people) == files and people.did == first
    other = await people.run("alice", "team", "create", "ops", "--out", str(files[0].parent))
    assert other.status == 15 and "is your contact shop" in other.err
    files[2].unlink()
    gap = await people.run("alice", "team", "create", "shop", "--out", str(files[0].parent))
    assert gap.status == 2 and "2 of 3 shares" in gap.happened


async def test_the_own_shares_are_not_a_teams(people: Team) -> None:
    """The shares of one's own key in the folder make no team."""
    folder = str(people.folder / "own")
    await people.must("alice", "recovery", "create", "--out", folder, *SHARES)
    refused = await people.run("alice", "team", "create", "shop", "--out", folder)
    assert refused.status == 2 and "this is the key of" in refused.err


async def test_RV16_recover(people: Team) -> None:
    """RV16: after the only admin is lost, two shares make Bob an admin, after a question."""
    files = await made(people)
    await people.must("alice", "use", "shop")
    await people.must("alice", "secret", "put", "API_KEY", given="open sesame")
    await people.log_in("bob")
    unasked = await recovered(people, "bob", *files[:2])
    assert unasked.status == 2 and "an admin of the team" in unasked.happened
    refused = await people.run("bob", "team", "recover", *map(str, files[:2]), typed="n\n")
    assert refused.status == 1
    few = await recovered(people, "bob", files[1], more=("--yes",))
    assert few.status == 2 and "1 of 2 needed shares" in few.happened
    assert "[]" in (await people.must("bob", "team", "list", "--json")).out
    ran = await people.run("bob", "team", "recover", str(files[0]), str(files[2]), typed="y\n")
    assert ran.status == 0 and people.did in ran.err, ran
    assert not words_are_in(ran, files)
    await people.must("bob", "contact", "add", "shop", people.did)
    await people.must("bob", "use", "shop")
    assert await people.reads("bob") == "open sesame"
    await people.must("bob", "team", "remove", "shop", people.dids["alice"])
    assert "not a member" in await people.reads("alice")


async def test_RV8_shares_of_somebody_else(people: Team) -> None:
    """RV8: the shares are compared with the team that --team names, before anything is signed."""
    files = await made(people)
    folder = people.folder / "own"
    await people.must("alice", "recovery", "create", "--out", str(folder), *SHARES)
    own = sorted(folder.iterdir())
    ran = await recovered(people, "alice", *own, more=("--team", "shop", "--yes"))
    assert ran.status == 2 and "the shares are of" in ran.happened
    ran = await recovered(people, "alice", files[0], own[1], more=("--yes",))
    assert ran.status == 2 and "differ in the owner" in ran.happened


async def test_recover_with_a_key_file(team: Team) -> None:
    """A key file serves too, for a person who is named; the file does not state the team."""
    await team.log_in("bob")
    recover = ("team", "recover", "--key-file", str(team.folder / "shop.key"), "--yes")
    unnamed = await team.run("alice", *recover)
    assert unnamed.status == 2 and "add --team" in unnamed.happened
    neither = await team.run("alice", "team", "recover", "--yes")
    assert neither.status == 2 and "--key-file" in neither.happened
    await team.must("alice", *recover, "--team", "shop", "--admin", "bob")
    assert await team.roles("alice") == {"alice": "admin", "bob": "admin"}
    own = str(team.folder / "alice" / ".sealspace" / "wallet.key")
    wrong = await team.run("alice", "team", "recover", "--key-file", own, "--team", "shop", "--yes")
    assert wrong.happened.startswith("the key is not that of the team"), wrong


async def test_RV9_a_passphrase(people: Team) -> None:
    """RV9: with a passphrase, the shares alone do not give the team's key."""
    secret = people.folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text("correct horse\n")
    given = ("--passphrase-file", str(secret))
    files = await made(people, *given)
    assert await made(people, *given) == files
    without = await recovered(people, "alice", *files[:2], more=("--yes",))
    assert without.status == 2 and "need a passphrase" in without.happened
    ran = await recovered(people, "alice", *files[:2], more=(*given, "--yes"))
    assert ran.status == 0, ran
