"""Tests of `sealspace recovery create`, `check` and `use`."""

import json
import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from owner_desk import OwnerDesk, Ran, owner_desk
from person import Person
from running_node import COMMAND
from tests_support import OUR_IMPORTS

from node.config.tree import Hosting
from sealspace.documents.recovery_sheets import parse_sheet
from sealspace.wallets import new_wallet

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """An owner who has logged in at a node."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as running:
        await running.log_in()
        yield running


async def made(desk: OwnerDesk, *more: str, name: str = "shares") -> list[Path]:
    """Split the owner's key, and return the files by the numbers of their shares."""
    folder = desk.home.parent / name
    ran = await desk.run("recovery", "create", "--out", str(folder), *more)
    assert ran.status == 0, ran
    return sorted(folder.iterdir())


async def owner_of(desk: OwnerDesk, home: Path | None = None) -> str:
    ran = await desk.run("whoami", "--json", home=home)
    assert ran.status == 0, ran
    owner: str = json.loads(ran.out)["owner"]
    return owner


def words_of(path: Path) -> str:
    return " ".join(parse_sheet(path.read_bytes()).share.words)


def said_no_words(ran: Ran, files: list[Path]) -> bool:
    """Return whether three words of a share in a row are in no output."""
    lines = [words_of(path).split() for path in files]
    rows = [" ".join(line[at : at + 3]) for line in lines for at in range(0, 31, 3)]
    printed = " ".join(f"{ran.out} {ran.err}".split())
    return not any(row in printed for row in rows)


def paths(*files: Path) -> list[str]:
    return [str(path) for path in files]


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- create ---------------------------------------------------------------------------------------


async def test_RV10_one_private_file_for_each_share(desk: OwnerDesk) -> None:
    """Each share is in a file of mode 0600, in a folder of mode 0700, and nothing is printed of
    it."""
    folder = desk.home.parent / "shares"
    ran = await desk.run("recovery", "create", "--out", str(folder))
    files = sorted(folder.iterdir())
    assert ran.status == 0 and said_no_words(ran, files), ran
    assert [path.name for path in files] == [f"share-{n}-of-5.txt" for n in range(1, 6)]
    assert ran.out.split() == paths(*files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "any 3 of these 5 files" in ran.err and "before still give the key" in ran.err
    sheets = [parse_sheet(path.read_bytes()) for path in files]
    assert {sheet.owner for sheet in sheets} == {await owner_of(desk)}
    assert {sheet.node for sheet in sheets} == {desk.node}


async def test_RV10_words_are_printed_on_demand(desk: OwnerDesk) -> None:
    """`--print` prints the sheets, or with `--json` the words."""
    folder = desk.home.parent / "shares"
    numbers = ("--shares", "2", "--threshold", "2")
    ran = await desk.run("recovery", "create", "--out", str(folder), *numbers, "--print")
    files = sorted(folder.iterdir())
    assert ran.out.split() == " ".join(path.read_text() for path in files).split()
    folder = desk.home.parent / "more"
    ran = await desk.run("recovery", "create", "--out", str(folder), *numbers, "--print", "--json")
    document: dict[str, Any] = json.loads(ran.out)
    assert document["words"] == [words_of(path) for path in sorted(folder.iterdir())]
    quiet = await desk.run(
        "recovery", "create", "--out", str(desk.home.parent / "third"), *numbers, "--json"
    )
    assert "words" not in json.loads(quiet.out)


async def test_RV6_an_address_with_other_letters(desk: OwnerDesk) -> None:
    """The node's address is written in ASCII; no node is needed to make shares."""
    profile = desk.home / "profile.json"
    stored = json.loads(profile.read_text())
    profile.write_text(json.dumps(stored | {"node": "https://knöten.example/ä"}))
    sheets = [parse_sheet(path.read_bytes()) for path in await made(desk)]
    assert {sheet.node for sheet in sheets} == {"https://xn--knten-kua.example/%C3%A4"}


async def test_RV10_nothing_is_overwritten(desk: OwnerDesk, tmp_path: Path) -> None:
    """A folder with files, or a path that cannot be a folder, is refused and left as it is."""
    folder = tmp_path / "shares"
    folder.mkdir()
    (folder / "share-4-of-5.txt").write_text("mine")
    ran = await desk.run("recovery", "create", "--out", str(folder))
    assert (ran.status, ran.happened) == (15, f"the folder {folder} is not empty")
    assert content_of(folder) == {"share-4-of-5.txt": b"mine"}
    ran = await desk.run("recovery", "create", "--out", str(tmp_path / "absent" / "shares"))
    assert ran.status == 10 and ran.happened.startswith("cannot write shares to"), ran


async def test_RV10_all_shares_or_none(desk: OwnerDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one file cannot be written, those before it are removed."""
    folder = desk.home.parent / "shares"
    link = os.link

    def fails_at_the_third(source: object, target: Path) -> None:
        if target.name.startswith("share-3"):
            raise OSError(28, "No space left on device")
        link(source, target)  # type: ignore[arg-type]  # as given

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", fails_at_the_third)
        ran = await desk.run("recovery", "create", "--out", str(folder))
    assert ran.status == 10 and "no space left on device" in ran.happened, ran
    assert content_of(folder) == {}


async def test_RV10_numbers_that_are_refused(desk: OwnerDesk, tmp_path: Path) -> None:
    """The threshold is 2 to the number of shares, which is at most 16."""
    for numbers in (("--shares", "17"), ("--threshold", "1"), ("--shares", "2")):
        ran = await desk.run("recovery", "create", "--out", str(tmp_path / "shares"), *numbers)
        assert ran.status == 2, ran
    assert not (tmp_path / "shares").exists()


async def test_RV10_a_key_elsewhere_is_not_split(desk: OwnerDesk, tmp_path: Path) -> None:
    """A machine token, a browser's wallet and a recovery phrase have no key file to split."""
    create = ("recovery", "create", "--out", str(tmp_path / "shares"))
    profile = desk.home / "profile.json"
    stored = json.loads(profile.read_text())
    profile.write_text(json.dumps(stored | {"wallet": "browser", "keyFile": None}))
    ran = await desk.run(*create)
    assert ran.status == 2 and "browser's wallet" in ran.happened, ran
    owner = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
    phrase = {"wallet": "phrase", "keyFile": None, "owner": owner}
    profile.write_text(json.dumps(stored | phrase))
    ran = await desk.run(*create)
    assert ran.status == 2 and "recovery phrase" in ran.happened, ran
    profile.write_text(json.dumps(stored))
    put = await desk.run("secret", "put", "API_KEY", given="open sesame")
    token = await desk.run("token", "create", "deploy", "--secret", "API_KEY")
    assert (put.status, token.status) == (0, 0), (put, token)
    with desk.monkeypatch.context() as patch:
        patch.setenv("SEALSPACE_TOKEN", token.out.strip())
        ran = await desk.run(*create)
    assert ran.status == 22 and "machine token" in ran.happened, ran
    assert not (tmp_path / "shares").exists()


# --- check ----------------------------------------------------------------------------------------


async def test_RV13_check_writes_nothing_and_needs_no_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check works on a machine without a login, after the node has stopped."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        files = await made(desk)
        owner = await owner_of(desk)
    home = tmp_path / "elsewhere"
    for chosen in (files[1:4], files):
        ran = await desk.run("recovery", "check", *paths(*chosen), "--json", home=home)
        assert ran.status == 0 and said_no_words(ran, files), ran
        document = json.loads(ran.out)
        assert document == {"owner": owner, "given": len(chosen), "recovers": True}
    assert not home.exists()
    ran = await desk.run("recovery", "check", *paths(*files[:3]), home=home)
    assert ran.out.splitlines()[-1].endswith("they give the owner's key")


async def test_RV2_too_few_files(desk: OwnerDesk) -> None:
    """The message says how many shares are missing."""
    files = await made(desk)
    ran = await desk.run("recovery", "check", str(files[0]))
    assert ran.status == 2
    assert ran.happened == "1 of 3 needed shares were given; 2 more shares are missing"
    ran = await desk.run("recovery", "use", *paths(*files[:2]), home=desk.home.parent / "new")
    assert ran.status == 2
    assert ran.happened == "2 of 3 needed shares were given; 1 more share is missing"
    assert not (desk.home.parent / "new").exists()


async def test_bad_files_are_named(desk: OwnerDesk, tmp_path: Path) -> None:
    """A file that is damaged, too long, given twice, of another set or absent is named."""
    files = await made(desk)
    others = await made(desk, name="others")
    word = words_of(files[1]).split()[9]
    damaged = tmp_path / "damaged.txt"
    damaged.write_text(files[1].read_text().replace(f"10 {word} ", "10 sesame "))
    long = tmp_path / "long.txt"
    long.write_text(files[1].read_text() + "x" * 8192)
    for second, message in (
        (damaged, f"{damaged}: word 10 is not in the list of words for shares"),
        (long, f"{long}: the file is longer than 8192 bytes"),
        (files[0], f"{files[0]} and {files[0]} are the same share, number 1"),
        (others[1], f"{others[1]} is of another set than {files[0]}"),
        (tmp_path / "absent", f"cannot read {tmp_path / 'absent'}: no such file or directory"),
    ):
        ran = await desk.run("recovery", "check", *paths(files[0], second, files[2]))
        assert ran.status == 2 and said_no_words(ran, files), ran
        assert ran.happened.startswith((message, f"{second} and {files[0]} differ in the date"))
    ran = await desk.run("recovery", "check", *paths(*files) * 4)
    assert (ran.status, ran.happened) == (2, "20 files were given"), ran


async def test_typed_lines_of_a_pipe(desk: OwnerDesk) -> None:
    """Each line of standard input is a share; the owner has to be stated; a wrong line is named."""
    files = await made(desk)
    owner = await owner_of(desk)
    lines = [words_of(path) for path in files]
    given = "\n".join(lines[2:])
    ran = await desk.run("recovery", "check", "-", "--owner", owner, given=given)
    assert ran.status == 0, ran
    ran = await desk.run("recovery", "check", "-", given=given)
    assert ran.status == 2 and "typed words do not state the owner" in ran.happened, ran
    ran = await desk.run("recovery", "check", str(files[0]), "-", given=given)
    assert ran.status == 0, ran
    wrong = lines[1].split()
    wrong[3], wrong[20] = wrong[20], "sesame"
    ran = await desk.run("recovery", "check", "-", given=f"{lines[0]}\n{' '.join(wrong)}\n")
    assert ran.status == 2 and said_no_words(ran, files), ran
    assert ran.happened.startswith("line 2 of standard input: word 21 is not in the list")
    ran = await desk.run("recovery", "check", "-", given=f"{lines[0]}\n{lines[0]}\n")
    assert ran.happened.startswith("line 2 of standard input and line 1 of standard input are the")
    ran = await desk.run("recovery", "check", "-", given="")
    assert (ran.status, ran.happened) == (2, "no share was given"), ran
    ran = await desk.run("recovery", "check", "-", given="x" * 5000)
    assert ran.happened.startswith("line 1 of standard input: the share is longer than 1024")
    ran = await desk.run("recovery", "check", "-", given=b"\xff\xfe" * 40)
    assert ran.happened.startswith("line 1 of standard input: the share has 1 words")


# --- use ------------------------------------------------------------------------------------------


async def test_a_lost_laptop(desk: OwnerDesk, tmp_path: Path) -> None:
    """On a new machine, shares give the same owner, who reads the same secrets."""
    put = await desk.run("secret", "put", "API_KEY", given="open sesame")
    assert put.status == 0, put
    files = await made(desk)
    owner = await owner_of(desk)
    home = tmp_path / "new"
    ran = await desk.run("recovery", "use", *paths(files[4], files[0], files[2]), home=home)
    assert ran.status == 0 and said_no_words(ran, files), ran
    assert f"logged in as {owner}" in ran.out
    assert await owner_of(desk, home) == owner
    key_file = home / "wallet.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert key_file.read_bytes() == (desk.home / "wallet.key").read_bytes()
    assert key_file.read_text().strip() not in ran.out + ran.err
    got = await desk.run("secret", "get", "API_KEY", home=home)
    assert (got.status, got.out.strip()) == (0, "open sesame"), got
    again = await desk.run("recovery", "use", *paths(*files[:3]), home=home)
    assert again.status == 0, again


async def test_RV11_another_owner_s_folder_is_not_overwritten(
    desk: OwnerDesk, tmp_path: Path
) -> None:
    """A folder with another owner's login or key, or with unreadable settings, stays as it is."""
    files = paths(*(await made(desk))[:3])
    home = tmp_path / "theirs"
    ran = await desk.run("login", desk.node, "--new", home=home)
    assert ran.status == 0, ran
    before = content_of(home)
    ran = await desk.run("recovery", "use", *files, home=home)
    assert ran.status == 15 and ran.happened.startswith(f"the folder {home} is that of"), ran
    assert "--home" in ran.next
    assert content_of(home) == before
    (home / "profile.json").unlink()
    (home / "session.json").unlink()
    ran = await desk.run("recovery", "use", *files, home=home)
    assert ran.status == 15 and "contains the key of" in ran.happened, ran
    (home / "profile.json").write_text("{")
    ran = await desk.run("recovery", "use", *files, home=home)
    assert ran.status == 10 and "profile.json" in ran.happened, ran
    assert (home / "wallet.key").read_bytes() == before["wallet.key"]


async def test_RV8_nothing_is_written_for_another_owner(desk: OwnerDesk, tmp_path: Path) -> None:
    """Shares that do not give the stated owner's key write nothing."""
    files = await made(desk)
    other, home = new_wallet().did, tmp_path / "new"
    lines = "\n".join(words_of(path) for path in files[:3])
    ran = await desk.run(
        "recovery", "use", "-", "--owner", other, "--node", desk.node, given=lines, home=home
    )
    assert ran.status == 1 and ran.happened == f"the shares do not give the key of {other}", ran
    for path in files:
        path.write_text(path.read_text().replace(await owner_of(desk), other))
    ran = await desk.run("recovery", "use", *paths(*files[:3]), home=home)
    assert ran.status == 1 and ran.happened == f"the shares do not give the key of {other}", ran
    assert not home.exists()


async def test_RV9_a_passphrase(desk: OwnerDesk, tmp_path: Path) -> None:
    """The passphrase is read from a private file, or typed; a wrong one is found by the DID."""
    secret, wrong = tmp_path / "passphrase", tmp_path / "wrong"
    for path, text in ((secret, "open sesame\n"), (wrong, "Open sesame\r\nmore\n")):
        path.touch(0o600)
        path.write_text(text)
    files = await made(desk, "--passphrase-file", str(secret))
    check = ("recovery", "check", *paths(*files[:3]))
    ran = await desk.run(*check, "--passphrase-file", str(secret))
    assert ran.status == 0, ran
    ran = await desk.run(*check, typed="open sesame\n")
    assert ran.status == 0, ran
    ran = await desk.run(*check)
    assert ran.status == 2 and ran.happened.startswith("the shares need a passphrase"), ran
    assert ran.next == "add --passphrase-file FILE"
    home = tmp_path / "new"
    for given, name in ((("--passphrase-file", str(wrong)), "file"), ((), "typed")):
        typed = "open sesame, please\n" if name == "typed" else None
        ran = await desk.run("recovery", "use", *check[2:], *given, typed=typed, home=home)
        assert ran.status == 1 and "with this passphrase" in ran.happened, ran
        assert "esame" not in ran.err + ran.out
    assert not home.exists()
    secret.chmod(0o640)
    ran = await desk.run(*check, "--passphrase-file", str(secret))
    assert ran.status == 2 and "other users can access the passphrase file" in ran.happened, ran
    secret.chmod(0o600)
    for text in ("\n", "é\n", "a" * 129):
        secret.write_text(text)
        ran = await desk.run(*check, "--passphrase-file", str(secret))
        assert ran.status == 2 and "passphrase" in ran.happened, ran
        assert "é" not in ran.err and "aa" not in ran.err


async def test_RV12_the_node_of_typed_shares(desk: OwnerDesk, tmp_path: Path) -> None:
    """If a share was typed, no file's node is used: its holder could have changed it."""
    files = await made(desk)
    lines = "\n".join(words_of(path) for path in files[1:3])
    home = tmp_path / "new"
    use = ("recovery", "use", str(files[0]), "-")
    ran = await desk.run(*use, given=lines, home=home)
    assert ran.status == 2 and ran.happened.startswith("not all shares state the node"), ran
    assert not home.exists()
    ran = await desk.run(*use, "--node", desk.node, given=lines, home=home)
    assert ran.status == 0, ran


async def test_a_node_that_does_not_answer(desk: OwnerDesk, tmp_path: Path) -> None:
    """If the node does not answer, nothing is written; the shares work again later."""
    files = paths(*(await made(desk))[:3])
    home = tmp_path / "new"
    ran = await desk.run("recovery", "use", *files, "--node", NOBODY, home=home)
    assert ran.status == 11, ran
    assert not (home / "wallet.key").exists()
    ran = await desk.run("recovery", "use", *files, home=home)
    assert ran.status == 0, ran


async def test_a_node_that_hosts_no_more_owners(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that does not admit the owner leaves the recovered key for a later login."""
    async with owner_desk(tmp_path / "one", capsys, monkeypatch) as first:
        await first.log_in()
        files = paths(*(await made(first))[:3])
    closed = Hosting(mode="permit")
    async with owner_desk(tmp_path / "two", capsys, monkeypatch, hosting=closed) as second:
        ran = await second.run("recovery", "use", *files, "--node", second.node)
        assert ran.status != 0 and "sealspace login" in ran.next, ran
        stored = (second.home / "wallet.key").read_bytes()
    assert stored == (first.home / "wallet.key").read_bytes()


# --- a person at a terminal -----------------------------------------------------------------------


async def test_a_person_types_shares(desk: OwnerDesk, tmp_path: Path) -> None:
    """Mistyped and repeated shares are asked for again, then the owner and the node."""
    files = await made(desk)
    owner = await owner_of(desk)
    lines = [words_of(path) for path in files]
    words = lines[0].split()
    words[6] = "sesame"
    mistyped = " ".join(words)
    typed = "\n".join([mistyped, lines[0], lines[0], lines[3], lines[4], owner, desk.node, ""])
    ran = await desk.run("recovery", "use", "-", typed=typed, home=tmp_path / "new")
    assert ran.status == 0 and said_no_words(ran, files), ran
    assert "word 7 is not in the list" in ran.err
    assert "are the same share, number 1" in ran.err
    assert await owner_of(desk, tmp_path / "new") == owner


@pytest.mark.slow
async def test_RV14_typed_words_are_not_shown(desk: OwnerDesk) -> None:
    """A real terminal shows nothing of the typed words, nor does the list of processes."""
    files = await made(desk)
    environment = {"PATH": os.environ["PATH"], **OUR_IMPORTS, "HOME": str(desk.home)}
    command = [*COMMAND, "recovery", "check", str(files[0]), "-"]
    with Person(command, environment=environment, folder=desk.home) as person:
        person.expect("share 2 of 3: ")
        person.type(words_of(files[1]).encode() + b"\n")
        person.expect("share 3 of 3: ")
        named = Path(f"/proc/{person.process.pid}/cmdline").read_bytes().decode()
        person.type(words_of(files[2]).encode() + b"\n")
        assert person.end() == 0
        shown = person.seen.decode()
    assert "they give the owner's key" in shown
    words = set(words_of(files[1]).split()) | set(words_of(files[2]).split())
    assert len(words & set(re.findall("[a-z]+", shown + named))) < 3
