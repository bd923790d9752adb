"""Tests of `sealspace login --phrase`, and of commands signed by a recovery phrase's key."""

import asyncio
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from backend_desk import SECRET, Desk
from owner_desk import owner_desk
from person import Person
from running_node import COMMAND
from tests_support import OUR_IMPORTS

from capabilities.signatures import Ed25519Signer
from node.config.tree import Hosting
from sealspace.errors import InvalidInput
from sealspace.session import load_session
from sealspace.wallets import seed_from_phrase

# Made by `recovery_phrase.js` from the bytes 0, 13, 26 … of 20.
PHRASE = "006H M9SM 8575 PT3N GA7S SADP RF8D VTQQ XWAY"
OWNER = "did:key:z6MkgEHkedQRKXjrFtNWtQv5wWeDNzFGUL7EjFctVxT65mMp"


async def _log_in(desk: Desk, *more: str) -> None:
    """Sign in with the phrase from a pipe."""
    files = (str(desk.folder / "root.pem"), str(desk.folder / "collateral"))
    trust = ("--trust-root", files[0], "--collateral", files[1])
    ran = await desk.run("login", desk.node, "--phrase", *trust, *more, given=f"{PHRASE}\n")
    assert ran.status == 0, ran


def test_the_key_is_that_of_the_console() -> None:
    """A phrase gives the same owner here as in the console, however it is typed."""
    spelt = (PHRASE, PHRASE.lower().replace(" ", "-"), PHRASE.replace(" ", "").replace("0", "o"))
    assert {Ed25519Signer(seed_from_phrase(one)).did for one in spelt} == {OWNER}


@pytest.mark.parametrize(
    "typed", ["", "abc", PHRASE[:-1], PHRASE[:-1] + "Z", PHRASE + "0", PHRASE[:-1] + "U", "é" * 36]
)
def test_a_wrong_phrase_is_rejected_without_repeating_it(typed: str) -> None:
    """A phrase with a wrong letter or length is rejected; the message contains no part of it."""
    with pytest.raises(InvalidInput) as refused:
        seed_from_phrase(typed)
    said = f"{refused.value.message} {refused.value.hint}"
    assert not any(group in said for group in PHRASE.split())


async def test_the_owner_of_a_phrase_uses_every_command(desk: Desk, tmp_path: Path) -> None:
    """The owner of a phrase can use secrets, grants, networks, spaces and sessions without a
    wallet."""
    await _log_in(desk, "--space", "notes")
    for words, given in (
        (("whoami",), ""),
        (("status",), ""),
        (("doctor",), ""),
        (("secret", "put", "API_KEY"), SECRET),
        (("secret", "list"), ""),
        (("network", "show"), ""),
        (("network", "create", "more"), ""),
        (("network", "revoke", "more", "--yes"), ""),
        (("space", "create", "later"), ""),
        (("space", "list"), ""),
        (("kv", "put", "a", "--space", "later"), "x"),
        (("receipts", "list"), ""),
        (("grant", "list"), ""),
        (("secret", "delete", "API_KEY"), ""),
        (("login",), PHRASE),
        (("kv", "put", "b", "--space", "later"), "y"),
    ):
        ran = await desk.run(*words, given=given)
        assert ran.status == 0, (words, ran)
    session = load_session(desk.home / "session.json")
    assert session.owner == session.did == OWNER
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    command = [
        *COMMAND,
        "run",
        "--home",
        str(desk.home),
        "--no-masking",
        "--",
        "printenv",
        "API_KEY",
    ]
    got = await asyncio.to_thread(lambda: subprocess.run(command, capture_output=True, text=True))
    assert (got.returncode, got.stdout.strip()) == (0, SECRET), got


async def test_the_owner_of_a_phrase_reads_its_secrets(desk: Desk) -> None:
    """The node opens a secret for the phrase's owner in person, without evidence."""
    await _log_in(desk)
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    got = await desk.run("secret", "get", "API_KEY")
    assert (got.status, got.out.strip()) == (0, SECRET), got


async def test_the_owner_of_a_phrase_grants_to_a_backend(desk: Desk) -> None:
    """The phrase's key signs the grant to a backend, and revokes it."""
    await _log_in(desk)
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    there = await desk.backend()
    granted = await desk.run("backend", "grant", there.url, "--yes")
    assert (granted.status, there.program.read) == (0, {"API_KEY": SECRET}), granted
    revoked = await desk.run("backend", "revoke", there.url)
    assert revoked.status == 0, revoked
    assert "revoked 1 grant" in revoked.err


async def test_the_owner_of_a_phrase_grants_and_accepts(desk: Desk, tmp_path: Path) -> None:
    """Grants by and to the phrase's key work, and a logout does not revoke what was accepted."""
    await _log_in(desk, "--space", "notes")
    session = load_session(desk.home / "session.json")
    wallet, home, file = tmp_path / "wallet", desk.home, tmp_path / "grant.json"
    desk.home = wallet
    await desk.log_in("--space", "theirs")
    made = await desk.run("grant", "create", OWNER, "--space", "theirs", "--out", str(file))
    assert made.status == 0, made
    desk.home = home
    made = await desk.run("grant", "create", session.did, "--space", "notes", "--json")
    cid = json.loads(made.out)["cid"]
    revoked = await desk.run("grant", "revoke", cid)
    assert revoked.status == 0, revoked
    assert "revoked:" in revoked.err
    accepted = await desk.run("grant", "accept", str(file))
    assert accepted.status == 0, accepted
    for words in (("status",), ("logout",), ("login",)):
        ran = await desk.run(*words, given=PHRASE)
        assert ran.status == 0, ran
        assert "no longer in force" not in ran.err
    assert len(load_session(desk.home / "session.json").grants) == 1


async def test_the_key_of_a_phrase_ends_with_the_days_and_with_a_logout(desk: Desk) -> None:
    """The login says where the key is stored. A logout deletes it, and so does the first command
    after its expiry."""
    await _log_in(desk)
    file = desk.home / "session.json"
    ran = await desk.run("login", "--days", "2", given=PHRASE)
    assert str(file) in ran.err and "logout" in ran.err
    stored = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads((await desk.run("whoami", "--json")).out)["expiresAt"] in ran.err
    seed = seed_from_phrase(PHRASE)
    for words in (("secret", "list"), ("whoami",), ("logout",)):
        file.write_text(json.dumps(stored | {"endsAt": stored["endsAt"] - 3 * 86_400}))
        file.chmod(0o600)
        late = await desk.run(*words)
        if words != ("logout",):
            assert (late.status, late.next) == (10, f"sealspace login {desk.node}"), late
        left = [one.read_text() for one in desk.home.rglob("*") if one.is_file()]
        assert not any(stored["seed"] in text or seed.hex() in text for text in left) and left


async def test_a_damaged_end_of_the_key_is_rejected(desk: Desk) -> None:
    """A key with a malformed expiry is refused."""
    await _log_in(desk)
    file = desk.home / "session.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"endsAt": "never"}))
    assert "cannot be read" in (await desk.run("secret", "list")).happened


@pytest.mark.parametrize(
    "more", [["--new"], ["--key-file", "/dev/null"], ["--keystore", "/dev/null"], ["--browser"]]
)
async def test_a_phrase_excludes_other_keys(desk: Desk, more: list[str]) -> None:
    """A phrase cannot be combined with a key file, a keystore or a browser wallet."""
    ran = await desk.run("login", desk.node, "--phrase", *more, given=PHRASE)
    assert ran.status == 2
    assert "--phrase" in ran.happened


@pytest.mark.parametrize("given", ["", "no phrase\n", "\x00\xff", "A" * 5000])
async def test_a_login_with_a_wrong_phrase_stores_nothing(desk: Desk, given: str) -> None:
    """A wrong line on standard input gives two lines and no files."""
    ran = await desk.run("login", desk.node, "--phrase", given=given)
    assert ran.status == 2, ran
    assert not desk.home.exists(), ran
    assert "nine groups" in ran.next


async def test_a_phrase_is_admitted_like_a_wallet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner who is not admitted is told the DID, and how to come back."""
    async with owner_desk(tmp_path, capsys, monkeypatch, hosting=Hosting(mode="permit")) as closed:
        ran = await closed.run("login", closed.node, "--phrase", given=PHRASE)
    assert OWNER in ran.next and ran.next.endswith("--phrase")


@pytest.mark.slow
async def test_a_person_types_a_phrase(desk: Desk) -> None:
    """On a terminal the command asks for the phrase and does not show it."""
    environment = {"PATH": os.environ["PATH"], **OUR_IMPORTS, "TERM": "dumb"}
    command = [*COMMAND, "login", desk.node, "--phrase", "--home", str(desk.home)]

    def typed() -> tuple[int, bytes]:
        with Person(command, environment=environment, folder=desk.folder) as person:
            person.expect("recovery phrase: ")
            person.type(f"{PHRASE}\n".encode())
            return person.end(), person.seen

    status, shown = await asyncio.to_thread(typed)
    assert status == 0, shown
    assert PHRASE[:4].encode() not in shown
    assert load_session(desk.home / "session.json").owner == OWNER
