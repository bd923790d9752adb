"""The commands `secret`, `kv` and `space`."""

import asyncio
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from owner_desk import OwnerDesk, owner_desk
from person import Person
from running_node import COMMAND
from tests_support import OUR_IMPORTS

from capabilities.siwe import parse_rfc3339
from sealspace.cli.keep.secret import ALPHABETS
from sealspace.session import load_session
from sealspace.sync import Client

SECRET = "open sesame"
BINARY = bytes(range(256))


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """An owner who has logged in."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        yield desk


# --- secrets --------------------------------------------------------------------------------------


async def test_a_secret_is_read_back_exactly(desk: OwnerDesk, tmp_path: Path) -> None:
    """Texts and bytes from standard input or a file are read back unchanged, without an added or
    lost line break."""
    text, data = tmp_path / "text", tmp_path / "file"
    text.write_bytes("ä line\nand another\n".encode())
    data.write_bytes(BINARY)
    assert (await desk.run("secret", "put", "PIPED", given=SECRET + "\n")).status == 0
    assert (await desk.run("secret", "put", "FILED", "--file", str(text))).status == 0
    assert (await desk.run("secret", "put", "BINARY", given=BINARY)).status == 0
    assert (await desk.run("secret", "put", "BYTES", "--bytes", given="a\n")).status == 0
    for name, value in (
        ("PIPED", SECRET.encode()),
        ("FILED", text.read_bytes()),
        ("BINARY", BINARY),
        ("BYTES", b"a\n"),
    ):
        assert (await desk.read("secret", "get", name)) == value
    said = json.loads((await desk.run("secret", "get", "BINARY", "--json")).out)
    assert said["name"] == "BINARY"
    assert said["encoding"] == "base64"


async def test_a_name_that_was_mistyped(desk: OwnerDesk) -> None:
    """Similar names are suggested if the session may list them. The exit status is the same in both
    cases."""
    await desk.run("secret", "put", "STRIPE_KEY", given=SECRET)
    for name, status in (("stripe_key", 2), ("STRIPE_KEYS", 21)):
        ran = await desk.run("secret", "get", name)
        assert ran.status == status, ran
        assert ran.out == ""
        assert ran.next.startswith("did you mean STRIPE_KEY?")
    ran = await desk.run("template", "-", given=b'{{ secret "STRIP_KEY" }}')
    assert ran.status == 21
    assert "did you mean STRIPE_KEY?" in ran.next
    assert (await desk.run("secret", "get", "OTHER")).next == (
        "sealspace secret list --all; if you deleted it in the last 7 days:"
        " sealspace secret restore OTHER"
    )
    ran = await desk.run("secret", "get", "stripe_key", "--owner", f"did:pkh:eip155:1:0x{'1' * 40}")
    assert ran.status == 2
    assert "did you mean" not in ran.err


async def test_a_new_name_in_lower_case(desk: OwnerDesk) -> None:
    """The commands that store a secret suggest the valid spelling of its name."""
    for command in (
        ("put", "api_key"),
        ("put", "Api-Key", "--scope", "ci"),
        ("generate", "api.key"),
    ):
        refused = await desk.run("secret", *command, given=SECRET)
        assert (refused.status, refused.next) == (2, "did you mean API_KEY?"), refused
    other = await desk.run("secret", "put", "1api", given=SECRET)
    assert "did you mean" not in other.err
    assert (await desk.run("secret", "list", "--all")).out == ""


async def test_what_a_terminal_is_shown(desk: OwnerDesk) -> None:
    """A terminal shows only printable lines: no control characters, and no bytes unless --raw is
    given."""
    await desk.run(
        "secret",
        "put",
        "LINES",
        given="a\nb\n\n",
    )
    await desk.run("secret", "put", "HOSTILE", given="\x1b[2J")
    await desk.run("secret", "put", "BINARY", given=BINARY)
    desk.use_terminal()
    assert (await desk.run("secret", "get", "LINES")).out == "a\nb\n"
    ran = await desk.run("secret", "get", "HOSTILE")
    assert "\x1b" not in ran.out
    assert "--raw" in ran.err
    assert (await desk.run("secret", "get", "HOSTILE", "--raw")).out == "\x1b[2J"
    ran = await desk.run("secret", "get", "BINARY")
    assert ran.status == 2
    assert ran.out == ""
    assert ran.next == "redirect the output with > FILE, or add --raw"


@pytest.mark.parametrize("arguments", [("API_KEY", SECRET), (f"API_KEY={SECRET}",)])
async def test_a_value_is_never_an_argument(desk: OwnerDesk, arguments: tuple[str, ...]) -> None:
    """A value as argument is refused with the reason, and is neither repeated nor stored."""
    for noun in ("secret", "kv")[: len(arguments)]:
        ran = await desk.run(noun, "put", *arguments, given="x")
        assert ran.status == 2
        assert SECRET not in ran.err
        assert "process lists" in ran.err
    assert json.loads((await desk.run("secret", "list", "--json")).out) == []


def _typed(desk: OwnerDesk, *arguments: str, answers: Mapping[str, str]) -> tuple[int, str]:
    """Run a command on a terminal and type each answer after its question; return its status and
    everything shown."""
    environment = {
        "PATH": os.environ["PATH"],
        **OUR_IMPORTS,
        "HOME": str(desk.home),
        "TERM": "dumb",
    }
    shown = ""
    with Person(
        [*COMMAND, *arguments, "--home", str(desk.home)], environment=environment, folder=desk.home
    ) as person:
        for question, answer in answers.items():
            shown += person.expect(f".*{re.escape(question)}")[0].decode()
            person.type(answer.encode())
        return person.end(), shown + person.seen.decode()


@pytest.mark.slow
async def test_a_person_types_a_value(desk: OwnerDesk) -> None:
    """A typed value is asked for twice and never shown; replacing asks again; Ctrl-C aborts."""
    put = ("secret", "put", "API_KEY")
    twice = {
        "value: ": f"{SECRET}\n",
        "repeat for confirmation: ": "another\n",
        "next: type it again, twice\r\nvalue: ": f"{SECRET}\n",
        "\r\nrepeat for confirmation: ": f"{SECRET}\n",
    }
    status, shown = await asyncio.to_thread(_typed, desk, *put, answers=twice)
    assert status == 0, shown
    assert SECRET not in shown
    assert "stored API_KEY" in shown
    assert await desk.read("secret", "get", "API_KEY") == SECRET.encode()
    status, shown = await asyncio.to_thread(
        _typed, desk, *put, answers={", stored a moment ago? [y/N]: ": "n\n"}
    )
    assert status == 1, shown
    assert "value: " not in shown
    assert "nothing was changed" in shown
    status, shown = await asyncio.to_thread(_typed, desk, "secret", "get", "API_KEY", answers={})
    assert (status, shown) == (0, f"{SECRET}\r\n")
    for answers, ended in (
        ({"value: ": "\x03"}, 130),
        ({"value: ": "\x04"}, 1),
    ):  # Ctrl-C, and the end of what is typed
        status, shown = await asyncio.to_thread(
            _typed, desk, "secret", "put", "OTHER", answers=answers
        )
        assert status == ended, shown
        assert "next: run the command again" in shown


async def test_over_an_older_secret_a_person_is_asked(desk: OwnerDesk) -> None:
    """Without a terminal a secret is replaced with a message. `--if-absent` refuses this."""
    put = ("secret", "put", "API_KEY")
    assert (await desk.run(*put, given="one")).err == "stored API_KEY\n"
    assert (await desk.run(*put, typed="n\n")).status == 1
    assert await desk.read("secret", "get", "API_KEY") == b"one"
    asked = await desk.run(*put, typed="y\ntwo\ntwo\n")
    question = "replace the existing secret API_KEY, stored a moment ago?"
    assert asked.status == 0
    assert question in asked.err
    assert (await desk.run(*put, "--yes", typed="three\nthree\n")).status == 0
    refused = await desk.run(*put, "--if-absent", given="four")
    assert (refused.status, refused.next) == (
        15,
        "to replace it, run first: sealspace secret delete API_KEY",
    )
    assert await desk.read("secret", "get", "API_KEY") == b"three"
    ran = await desk.run(*put, given="five")
    assert (ran.status, ran.err) == (
        0,
        "replaced the earlier value, stored a moment ago; to undo this: sealspace secret rollback"
        " API_KEY 3\nstored API_KEY\n",
    )


async def test_a_value_from_standard_input_is_stored_without_a_question(
    desk: OwnerDesk, tmp_path: Path
) -> None:
    """Standard input can be sent only once, so it replaces a value at once, as the help says. For a
    file a person is asked."""
    put = ("kv", "put", "a")
    assert (await desk.run(*put, given="one")).status == 0
    assert (await desk.run(*put, given="two")).status == 0
    assert await desk.read("kv", "get", "a") == b"two"
    (tmp_path / "three").write_text("three")
    asked = await desk.run(*put, "--file", str(tmp_path / "three"), typed="n\n")
    assert asked.status == 1 and "replace the existing value a?" in asked.err
    assert (await desk.run(*put, "--if-absent", given="four")).status == 15
    assert await desk.read("kv", "get", "a") == b"two"
    said = " ".join((await desk.run(*put, "--help")).out.split())
    assert "A value from standard input replaces it without a question" in said


async def test_what_was_asked_about_is_what_is_replaced(desk: OwnerDesk, tmp_path: Path) -> None:
    """A change between question and answer is not overwritten, and the command ends with an
    error."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".env").write_text("API_KEY=mine\nOTHER=mine\n")

    def meanwhile() -> None:
        with Client(desk.node, session=load_session(desk.home / "session.json")) as client:
            client.secrets().put("API_KEY", "theirs")
            client.kv().put("a", "theirs")

    await asyncio.to_thread(meanwhile)
    for command, given in (
        (("secret", "put", "API_KEY"), "mine\nmine\n"),
        (("secret", "import", str(tmp_path / ".env")), ""),
        (("kv", "put", "a", "--file", str(tmp_path / "mine")), ""),
    ):
        await desk.run("secret", "put", "API_KEY", given="before")
        await desk.run("kv", "put", "a", given="before")
        ran = await desk.run(*command, typed=f"y\n{given}", meanwhile=meanwhile)
        assert ran.status == 15, ran
        assert "in the meantime; nothing was stored" in ran.err
        assert (
            await desk.read("secret", "get", "API_KEY")
            == await desk.read("kv", "get", "a")
            == b"theirs"
        )
    assert [one["name"] for one in await _listed(desk)] == ["API_KEY"]


async def test_a_secret_that_appears_while_the_value_is_typed(desk: OwnerDesk) -> None:
    """A secret that appears while a value is typed is not replaced, because the question was not
    about it."""

    def meanwhile() -> None:
        with Client(desk.node, session=load_session(desk.home / "session.json")) as client:
            client.secrets().put("API_KEY", "theirs")

    ran = await desk.run("secret", "put", "API_KEY", typed="y\ny\n", meanwhile=meanwhile)
    assert ran.status == 15, ran
    assert "in the meantime; nothing was stored" in ran.err
    assert await desk.read("secret", "get", "API_KEY") == b"theirs"


async def test_deleting_says_what_there_was(desk: OwnerDesk) -> None:
    """Deleting asks first, and gives the same answer for deleted and unknown names."""
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    assert (await desk.run("secret", "delete", "API_KEY", typed="n\n")).status == 1
    assert (await desk.run("secret", "delete", "API_KEY")).status == 0
    again, never = [await desk.run("secret", "delete", name) for name in ("API_KEY", "API_KEX")]
    assert (again.status, again.err.replace("API_KEY", "API_KEX")) == (21, never.err)
    assert never.status == 21
    assert never.next.startswith("sealspace secret list --all; ")
    assert (await desk.run("secret", "get", "API_KEY")).status == 21


async def test_lists(desk: OwnerDesk) -> None:
    """An empty list prints nothing on standard output and one sentence on standard error. Each
    scope has its own list."""
    empty = await desk.run("secret", "list")
    assert (empty.status, empty.out) == (0, "") and "next: sealspace secret put NAME" in empty.err
    before_s = int(time.time())
    await desk.run("secret", "put", "B", given="1")
    after_s = time.time()
    await desk.run("secret", "put", "A", "--scope", "staging", given="2")
    b, a = await _listed(desk, "--all")
    assert b["name"] == "B"
    assert b["scope"] is None
    assert a["name"] == "A"
    assert a["scope"] == "staging"
    assert before_s <= parse_rfc3339(b["changedAt"]) <= after_s
    assert (await desk.run("secret", "list")).out == f"B  -  {b['changedAt']}\n"
    ran = await desk.run("secret", "list", "--scope", "staging")
    assert ran.out == f"A  staging  {a['changedAt']}\n"
    assert (await desk.run("secret", "list", "--all", "--scope", "staging")).status == 2


async def _listed(desk: OwnerDesk, *more: str) -> list[dict[str, Any]]:
    """Return what `secret list --json` prints."""
    ran = await desk.run("secret", "list", "--json", *more)
    found: list[dict[str, Any]] = json.loads(ran.out)
    return found


@pytest.mark.parametrize("name", ["api_key", "PROTECTED_KEY", "A B"])
async def test_a_name_is_checked_before_the_value_is_asked_for(desk: OwnerDesk, name: str) -> None:
    """A name that cannot be stored is refused before standard input is read."""
    ran = await desk.run("secret", "put", name, typed="mine\nmine\n")
    assert (ran.status, len(ran.err.splitlines())) == (2, 2), ran


@pytest.mark.parametrize("alphabet", ALPHABETS)
async def test_generate(desk: OwnerDesk, alphabet: str) -> None:
    """The value has the requested length and alphabet, and is printed only with --show."""
    made = await desk.run("secret", "generate", "KEY", "--length", "40", "--alphabet", alphabet)
    value = (await desk.read("secret", "get", "KEY")).decode()
    assert made.status == 0
    assert made.out == "KEY\n"
    assert len(value) == 40
    assert set(value) <= set(ALPHABETS[alphabet])
    assert value not in made.err
    shown = await desk.run("secret", "generate", "KEY", "--show")
    assert shown.out.strip().encode() == await desk.read("secret", "get", "KEY") != value.encode()
    assert (await desk.run("secret", "generate", "KEY", "--if-absent")).status == 15


@pytest.mark.parametrize(
    "arguments",
    [
        ("put", "api_key"),
        ("get", "api key"),
        ("delete", "1A"),
        ("put", "A", "--scope", "global"),
        ("generate", ""),
    ],
)
async def test_names_that_do_not_fit(desk: OwnerDesk, arguments: tuple[str, ...]) -> None:
    """The error about a malformed name or scope says in two lines what is allowed."""
    ran = await desk.run("secret", *arguments, given=SECRET)
    assert ran.status == 2, ran
    assert len(ran.err.splitlines()) == 2
    assert SECRET not in ran.err


async def test_an_empty_and_a_huge_value(desk: OwnerDesk, tmp_path: Path) -> None:
    """Empty and oversized values are not stored, and the message does not quote them."""
    huge = tmp_path / "huge"
    huge.write_bytes(b"x" * (1 << 21))
    for source in (("--file", os.devnull), ("--file", str(huge)), ()):
        assert (await desk.run("secret", "put", "API_KEY", *source, given="\n")).status == 2
    assert (
        await desk.run("secret", "put", "API_KEY", "--file", str(tmp_path / "absent"))
    ).status == 2
    assert (await desk.run("secret", "list", "--json")).out == "[]\n"


# --- values ---------------------------------------------------------------------------------------


async def test_values(desk: OwnerDesk, tmp_path: Path) -> None:
    """Values of any size are put, read, listed and deleted unchanged. Deleting a missing value
    gives the same answer."""
    film, copy = tmp_path / "film", tmp_path / "copy"
    film.write_bytes(os.urandom(1 << 20) * 20)
    assert (
        await desk.run("kv", "put", "film", "--file", str(film), "--type", "video/x")
    ).status == 0
    assert (await desk.run("kv", "put", "note", given=BINARY)).status == 0
    assert await desk.read("kv", "get", "note") == BINARY
    assert (await desk.run("kv", "get", "film", "--out", str(copy))).status == 0
    assert hashlib.sha256(copy.read_bytes()).digest() == hashlib.sha256(film.read_bytes()).digest()
    said = json.loads((await desk.run("kv", "head", "film", "--json")).out)
    assert said["key"] == "film"
    assert said["contentType"] == "video/x"
    assert said["size"] == 20 << 20
    shown = (await desk.run("kv", "head", "film")).out.splitlines()
    assert [re.split(r"\s{2,}", line) for line in shown] == [
        ["key", "film"],
        ["version", said["etag"]],
        ["size", f"{20 << 20} bytes"],
        ["content type", "video/x"],
    ]
    assert (await desk.run("kv", "list")).out == "film\nnote\n"
    assert json.loads((await desk.run("kv", "list", "n", "--json")).out) == ["note"]
    assert (await desk.run("kv", "delete", "note")).status == 0
    again, never = await desk.run("kv", "delete", "note"), await desk.run("kv", "delete", "noto")
    assert (again.status, again.err.replace("note", "noto")) == (21, never.err)
    empty = await desk.run("kv", "list", "x")
    assert empty.out == ""
    assert "next: " in empty.err


async def test_conditions_on_values(desk: OwnerDesk, tmp_path: Path) -> None:
    """`--if-absent` and `--if-match` are enforced; replacing a value or a file asks first."""
    file = tmp_path / "file"
    file.write_text("new")
    await desk.run("kv", "put", "a", given="old")
    etag = json.loads((await desk.run("kv", "head", "a", "--json")).out)["etag"]
    assert (await desk.run("kv", "put", "a", "--if-absent", given="x")).status == 15
    assert (await desk.run("kv", "put", "a", "--if-match", '"other"', given="x")).status == 15
    assert (
        await desk.run("kv", "put", "a", "--if-match", etag, "--if-absent", given="x")
    ).status == 2
    assert (await desk.run("kv", "put", "a", "--file", str(file), typed="n\n")).status == 1
    assert (await desk.run("kv", "get", "a", "--out", str(file), typed="n\n")).status == 1
    refused = await desk.run("kv", "get", "a", "--out", str(file))
    assert refused.status == 2
    assert refused.next == "add --yes"
    assert file.read_text() == "new"
    assert (await desk.run("kv", "put", "a", "--file", str(file), typed="y\n")).status == 0
    assert await desk.read("kv", "get", "a") == b"new"
    asked = await desk.run("kv", "delete", "a", typed="n\n")
    assert asked.status == 1
    assert "delete the value a?" in asked.err
    # nothing is typed as a value of no secret
    assert (await desk.run("kv", "put", "b", typed="x\n")).status == 2


async def test_other_spaces(desk: OwnerDesk) -> None:
    """A space is created with one signature of the wallet, can be used at once, and is included in
    later logins."""
    for verb in ("put", "list", "get"):
        key = () if verb == "list" else ("a",)
        refused = await desk.run("kv", verb, *key, "--space", "notes", given="x")
        assert (refused.status, refused.next) == (21, "sealspace space create notes"), refused
        assert "the space notes does not exist yet" in refused.err
    made = await desk.run("space", "create", "notes")
    assert made.status == 0, made
    assert made.out.strip().endswith(":notes")
    assert (await desk.run("kv", "put", "a", "--space", "notes", given="x")).status == 0
    assert (await desk.run("login")).status == 0
    assert await desk.read("kv", "get", "a", "--space", "notes") == b"x"
    names = [one["name"] for one in json.loads((await desk.run("space", "list", "--json")).out)]
    assert {"default", "notes", "secrets"} <= set(names)
    assert "notes" in (await desk.run("space", "list")).out
    assert (await desk.run("space", "info", "notes")).status == 0
    assert json.loads((await desk.run("space", "info", "notes", "--json")).out)["name"] == "notes"
    again = await desk.run("space", "create", "notes")
    assert (again.status, again.next) == (15, "to use it: sealspace login --space notes")
    absent = await desk.run("space", "info", "absent")
    assert (absent.status, absent.next) == (21, "sealspace space list")


def test_nothing_that_is_kept_is_open_to_others() -> None:
    """Files that `replace_file` writes have a private mode, whatever the umask."""
    from tempfile import TemporaryDirectory

    from sealspace.private_files import replace_file

    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_text("before")
        path.chmod(0o644)
        replace_file(path, b"after")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_bytes() == b"after"
        assert os.listdir(folder) == ["file"]
