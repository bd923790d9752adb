"""`secret import` and `export`, and the files that they read and write."""

import json
import re
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from owner_desk import OwnerDesk, owner_desk

from capabilities.strict_json import Json
from sealspace.cli.keep.dotenv import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    BrokenEntry,
    encode_dotenv,
    parse_dotenv,
    parse_values,
    values_json,
)
from sealspace.cli.use.project import Project, find_project
from sealspace.errors import InvalidInput

NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,6}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8")) | st.text("ab '\"\\$`#\n\r\t=")
CANARY = "open-sesame"


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """An owner who has logged in."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        yield desk


# --- files ----------------------------------------------------------------------------------------


def test_what_a_dotenv_file_says() -> None:
    """A .env file has comments, `export` and three kinds of values, and nothing is expanded."""
    text = r"""
# a comment
  export A = as it stands $HOME 'too'   # a comment
B='literally \n
over two lines' # a comment
C="escaped \n \"\\\$ \x
over two lines"
D=
E=a#b
F= # nothing
G="x"
"""
    assert parse_dotenv(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()) == {
        "A": "as it stands $HOME 'too'",
        "B": "literally \\n\nover two lines",
        "C": 'escaped \n "\\$ \\x\nover two lines',
        "D": "",
        "E": "a#b",
        "F": "",
        "G": "x",
    }


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{CANARY}", "line 1"),
        (f"A=1\n\n# x\n{CANARY} {CANARY}=1", "line 4"),
        (f"A='{CANARY}\nB=1", "line 1"),
        (f"A='1\n2'\nB=\"{CANARY}", "line 3"),
        (f"A='x'{CANARY}", "line 1"),
        (f"A=#{CANARY}", "line 1"),
        (f"A=1\nA={CANARY}", "line 2"),
        (f"open={CANARY}", "line 1"),
        (f"={CANARY}", "line 1"),
        ("".join(f"A{number}=1\n" for number in range(MAX_ENTRIES + 1)), f"line {MAX_ENTRIES + 1}"),
    ],
)
def test_a_broken_line_is_named_by_its_number(text: str, place: str) -> None:
    """A broken line is reported by its number, and its content is not quoted."""
    with pytest.raises(BrokenEntry, match=rf"^{place}( \(.*\))?: [^;]*") as broken:
        parse_dotenv(text.encode())
    assert CANARY not in str(broken.value) and broken.value.hint
    assert broken.value.__cause__ is None


def test_all_that_is_broken_is_named_at_once() -> None:
    """One error lists every faulty line with its number, up to a limit. Lines after a faulty one
    are read too."""
    text = f"A=1\n{CANARY}\nB=2\nlower={CANARY}\nA={CANARY}\nC='{CANARY}\nD=#{CANARY}\n"
    with pytest.raises(BrokenEntry) as broken:
        parse_dotenv(text.encode())
    lines = re.findall(r"line (\d+)", broken.value.message)
    assert lines == ["2", "4", "5", "6", "7"]
    assert CANARY not in str(broken.value)
    assert "capitals" in broken.value.hint and "close the quote" in broken.value.hint
    assert broken.value.hint.count("a capital first") == 1
    with pytest.raises(BrokenEntry) as many:
        parse_dotenv(b"x\n" * 100_000)
    assert many.value.message.endswith("the rest was not checked")
    assert len(many.value.message) < 1000
    with pytest.raises(BrokenEntry, match=r"^member 1: .*; member 3 \(C\): "):
        parse_values(json.dumps({"a": "1", "B": "2", "C": [3]}).encode())


def test_a_broken_entry_is_named() -> None:
    """The error about a malformed entry shows its name only if the name is valid."""
    with pytest.raises(BrokenEntry) as broken:
        parse_dotenv(f"API_KEY='x\n{CANARY}=\nAPI_KEY=#{CANARY}\n".encode())
    assert "line 1 (API_KEY): a quote is not closed" in broken.value.message
    assert "line 3 (API_KEY)" in broken.value.message and CANARY not in broken.value.message
    with pytest.raises(BrokenEntry, match=r"^member 2 \(API_KEY\): the value is a list or"):
        parse_values(json.dumps({"A": "1", "API_KEY": [5]}).encode())


def test_names_in_lower_case() -> None:
    """Names in lower case are refused, and the message names the option that converts them.
    Converted names have to differ too."""
    assert parse_dotenv(b"db-url=1\nA.b=2\n", upper=True) == {"DB_URL": "1", "A_B": "2"}
    assert parse_values(b'{"db_url": 1}', upper=True) == ({"DB_URL": "1"}, ("DB_URL",))
    with pytest.raises(BrokenEntry) as broken:
        parse_dotenv(b"db_url=1\n")
    assert "add --upper" in str(broken.value.hint)
    with pytest.raises(BrokenEntry, match="an earlier entry has the same name"):
        parse_dotenv(b"db_url=1\nDB_URL=2\n", upper=True)


@pytest.mark.parametrize(
    "member",
    [
        [],
        [CANARY],
        {},
        {"PORT": 8080},
        {"value": CANARY},
        {"value": 5, "encoding": "base64"},
        {"value": CANARY, "encoding": "base64"},
    ],
)
def test_a_nested_value_is_refused_by_its_name(member: Json) -> None:
    """Lists and objects other than base64 bytes are refused with number and name (CN4)."""
    with pytest.raises(BrokenEntry, match=r"^member 2 \(B\): ") as broken:
        parse_values(json.dumps({"A": "1", "B": member}).encode())
    assert CANARY not in str(broken.value)
    with pytest.raises(BrokenEntry, match=r"^member 1( \(.*\))?: "):
        parse_values(json.dumps({CANARY: "1"}).encode())


def test_CN4_numbers_become_the_text_of_the_file() -> None:
    """Numbers, true, false and null become their text in the file, and are named. A text is no
    number, whatever it contains."""
    text = (
        '{"PORT": 8080, "RATE": 1.10, "BIG": 1E5, "ON": true, "OFF": false, "NO": null, "A": "1"}'
    )
    values, converted = parse_values(text.encode())
    assert values == {
        "PORT": "8080",
        "RATE": "1.10",
        "BIG": "1E5",
        "ON": "true",
        "OFF": "false",
        "NO": "null",
        "A": "1",
    }
    assert converted == ("PORT", "RATE", "BIG", "ON", "OFF", "NO")
    assert {type(one) for one in values.values()} == {str}
    for number in ("1e400", "[-1e400]", "1" * 400):
        with pytest.raises(InvalidInput):
            parse_values(f'{{"A": {number}}}'.encode())


@pytest.mark.parametrize("data", [b"\xff", b"A=1" + bytes([0xC3]), b"A=" + b"x" * MAX_FILE_BYTES])
def test_what_is_no_text(data: bytes) -> None:
    """A file that is too long or not UTF-8 is refused."""
    for parse in (parse_dotenv, parse_values):
        with pytest.raises(InvalidInput):
            parse(data)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"A": "1", "A": "2"}', b'{"A": "1"} x', b"{" * 100])
def test_what_is_no_json_object(data: bytes) -> None:
    """A file that is not one JSON object with unique names is refused."""
    with pytest.raises(InvalidInput, match="JSON"):
        parse_values(data)


@given(st.dictionaries(NAMES, TEXTS, max_size=4))
def test_a_dotenv_file_is_read_as_it_was_written(values: dict[str, str | bytes]) -> None:
    """Any texts written to a .env file are read back unchanged."""
    assert parse_dotenv(encode_dotenv(values).encode()) == values


@given(st.dictionaries(NAMES, TEXTS | st.binary(), max_size=4))
def test_json_is_read_as_it_was_written(values: dict[str, str | bytes]) -> None:
    """Texts and bytes written to JSON are read back unchanged."""
    assert parse_values(json.dumps(values_json(values)).encode()) == (values, ())


@given(st.binary() | st.text("AB='\"\\# \n\r$export").map(str.encode))
def test_fuzz_files(data: bytes) -> None:
    """Any bytes are values, or are refused."""
    for parse in (parse_dotenv, lambda data: parse_values(data).values):
        with suppress(InvalidInput):
            assert all(re.fullmatch("[A-Z][A-Z0-9_]*", name) for name in parse(data))


@pytest.mark.parametrize(
    "text",
    ["A" * 4_000_000, "A=" + " " * 4_000_000 + "x", "A=" + " #" * 2_000_000, " " * 4_000_000],
)
def test_long_lines_take_no_long_time(text: str) -> None:
    """Reading takes time proportional to the length; a quadratic reader would not end."""
    with suppress(BrokenEntry):
        parse_dotenv(text.encode())


# --- commands -------------------------------------------------------------------------------------


async def test_import_and_export(desk: OwnerDesk, tmp_path: Path) -> None:
    """Imported secrets, texts and bytes, are exported unchanged as .env and JSON."""
    file, env, out = tmp_path / "values.json", tmp_path / ".env", tmp_path / "out.json"
    values: dict[str, str | bytes] = {"A": "it's\nää", "B": bytes(range(256)), "C": ""}
    file.write_text(json.dumps(values_json(values)))
    imported = await desk.run("secret", "import", str(file))
    assert (imported.status, imported.out) == (0, ""), imported
    exported = await desk.run("secret", "export", "--format", "json")
    assert parse_values(exported.out.encode()).values == values
    assert (await desk.run("secret", "export", "--format", "json", "--out", str(out))).status == 0
    assert parse_values(out.read_bytes()).values == values
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    refused = await desk.run("secret", "export")
    assert refused.status == 2
    assert "the secret B is binary data, which a .env file cannot contain" in refused.err
    assert refused.next == "add --format json"
    env.write_text("A='x'\nD=y\n")
    assert (await desk.run("secret", "import", str(env), "--scope", "staging")).status == 0
    assert await desk.read("secret", "export", "--scope", "staging") == b"A='x'\nD='y'\n"
    piped = await desk.run(
        "secret", "import", "-", "--format", "env", "--scope", "other", given="E=z\n"
    )
    assert piped.status == 0 and await desk.read("secret", "get", "E", "--scope", "other") == b"z"


async def test_an_import_of_numbers(desk: OwnerDesk, tmp_path: Path) -> None:
    """Numbers in JSON are stored as text, and a line names them; a dry run has the line too. A
    nested value is refused by its name, and nothing is stored."""
    file = tmp_path / "values.json"
    file.write_text('{"PORT": 8080, "RATE": 1.10, "A": "x"}')
    line = "numbers, true, false and null are stored as text: PORT, RATE\n"
    for more in (("--dry-run",), ()):
        ran = await desk.run("secret", "import", str(file), *more)
        assert ran.status == 0, ran
        assert ran.err.count(line) == 1
    assert await desk.read("secret", "get", "RATE") == b"1.10"
    file.write_text(json.dumps({"NEW": "x", "HOSTS": [CANARY]}))
    ran = await desk.run("secret", "import", str(file))
    assert ran.status == 2 and CANARY not in ran.err
    assert ran.happened.endswith(
        "member 2 (HOSTS): the value is a list or an object, but not bytes in base64"
    )
    assert "NEW" not in (await desk.run("secret", "list", "--all")).out


async def test_an_import_of_names_in_lower_case(desk: OwnerDesk, tmp_path: Path) -> None:
    """With --upper, names in lower case are stored as capitals."""
    (tmp_path / ".env").write_text("db_url=1\n")
    command = ("secret", "import", str(tmp_path / ".env"))
    refused = await desk.run(*command)
    assert refused.status == 2
    assert "add --upper" in refused.next
    assert (await desk.run(*command, "--upper")).status == 0
    assert await desk.read("secret", "get", "DB_URL") == b"1"


async def test_a_dry_run_stores_nothing(desk: OwnerDesk, tmp_path: Path) -> None:
    """A dry run prints the names that are new or would be replaced, and no values."""
    await desk.run("secret", "put", "A", given="1")
    env = tmp_path / ".env"
    env.write_text(f"A={CANARY}\nB={CANARY}\n")
    ran = await desk.run("secret", "import", str(env), "--dry-run")
    assert ran.status == 0
    assert ran.out == "replace  A\nnew      B\n"
    assert CANARY not in ran.err
    said = json.loads((await desk.run("secret", "import", str(env), "--dry-run", "--json")).out)
    assert said == [{"name": "A", "replaces": True}, {"name": "B", "replaces": False}]
    assert await desk.read("secret", "get", "A") == b"1"


async def test_an_import_that_writes_the_project_file(
    desk: OwnerDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --write-project, the imported names are written to a project file. An existing file is
    kept, and then nothing is stored."""
    monkeypatch.chdir(tmp_path)
    env = tmp_path / ".env"
    env.write_text(f"API_KEY={CANARY}\nLOG_LEVEL=2\n")
    command = ("secret", "import", str(env), "--scope", "My App")
    assert (await desk.run(*command, "--write-project", "--dry-run")).status == 0
    assert find_project() is None
    assert (await desk.run(*command)).status == 0
    assert find_project() is None
    ran = await desk.run(*command, "--yes", "--write-project")
    assert ran.status == 0, ran
    assert ran.err.endswith("in this folder and below, `sealspace run` passes these names\n")
    path = tmp_path / ".sealspace.toml"
    assert find_project() == Project(str(path), scope="my-app", secrets=("API_KEY", "LOG_LEVEL"))
    assert CANARY not in path.read_text()
    env.write_text("OTHER_KEY=1\n")
    refused = await desk.run(*command, "--write-project")
    assert refused.status == 2
    assert refused.happened == "cannot create .sealspace.toml: the file already exists"
    assert "OTHER_KEY" not in (await desk.run("secret", "list", "--all")).out
    long_names = "".join(f"A{'B' * 100}{number}=1\n" for number in range(200))
    env.write_text(long_names)
    path.unlink()
    refused = await desk.run(*command, "--write-project")
    assert refused.status == 2 and "has at most 16384 bytes" in refused.happened, refused
    assert not path.exists()


async def test_what_an_import_replaces_is_asked_about(desk: OwnerDesk, tmp_path: Path) -> None:
    """An import shows the names that it would replace and asks. Without a terminal it fails, and a
    no stops it."""
    env = tmp_path / ".env"
    env.write_text("A=1\nB=2\n")
    asked = await desk.run("secret", "import", str(env), typed="n\n")
    assert asked.status == 1
    assert "new      A" in asked.err
    assert "store these secrets (2)?" in asked.err
    assert (await desk.run("secret", "list")).out == ""
    assert (await desk.run("secret", "import", str(env))).status == 0
    refused = await desk.run("secret", "import", str(env))
    assert (refused.status, refused.next) == (2, "add --yes")
    assert (await desk.run("secret", "import", str(env), "--yes")).status == 0
    assert (await desk.run("secret", "import", str(env), typed="y\n")).status == 0


async def test_nothing_is_half_done(desk: OwnerDesk, tmp_path: Path) -> None:
    """If the last line of an import is faulty, no secret is stored."""
    env = tmp_path / ".env"
    for last in (f"{CANARY}", f"B={'x' * 1_100_000}"):
        env.write_text(f"A=1\n{last}\n")
        ran = await desk.run("secret", "import", str(env))
        assert ran.status == 2, ran
        assert CANARY not in ran.err
        assert ran.next != ""
    listed = await desk.run("secret", "list")
    assert listed.out == "" and "all scopes: sealspace secret list --all" in listed.err


@pytest.mark.parametrize(
    ("name", "text", "more", "hint"),
    [
        ("values.yaml", "- A", (), 'write NAME: "VALUE", one per line'),
        ("-", "A=1", (), "add --format env, json or yaml"),
        ("values.json", "A=1", (), 'write {"NAME": "VALUE"}'),
    ],
)
async def test_files_that_are_not_read(
    desk: OwnerDesk, tmp_path: Path, name: str, text: str, more: tuple[str, ...], hint: str
) -> None:
    """Each unreadable file gives an error with a next step."""
    (tmp_path / name).write_text(text)
    ran = await desk.run(
        "secret", "import", name if name == "-" else str(tmp_path / name), *more, given=text
    )
    assert (ran.status, ran.next) == (2, hint)


async def test_a_broken_line_is_said_with_its_file(desk: OwnerDesk, tmp_path: Path) -> None:
    """A broken line is reported with file and line, without its content."""
    (tmp_path / ".env").write_text(f"A=1\n{CANARY}\n")
    ran = await desk.run("secret", "import", str(tmp_path / ".env"))
    assert ran.status == 2, ran
    assert CANARY not in ran.err
    assert f"{tmp_path / '.env'}: line 2: the line is not NAME=VALUE" in ran.err


@pytest.mark.parametrize(("name", "text"), [("a.json", "[1]"), ("a.yaml", "A: 1\n  B: 2\n")])
async def test_a_broken_file_is_named(
    desk: OwnerDesk, tmp_path: Path, name: str, text: str
) -> None:
    """The error about a file that cannot be read as a whole names the file."""
    (tmp_path / name).write_text(text)
    ran = await desk.run("secret", "import", str(tmp_path / name))
    assert ran.status == 2, ran
    assert ran.happened.startswith(f"{tmp_path / name}: ")


async def test_an_export_replaces_no_file_unasked(desk: OwnerDesk, tmp_path: Path) -> None:
    """An export asks before it replaces a file, and needs --yes without a terminal. An empty export
    is reported."""
    out = tmp_path / "out"
    empty = await desk.run("secret", "export")
    assert empty.out == ""
    said = "no secrets here (all scopes: sealspace secret list --all); next: "
    assert empty.err == f"{said}sealspace secret put NAME\n"
    await desk.run("secret", "put", "A", given="1")
    out.write_text("before")
    export = ("secret", "export", "--out", str(out))
    assert (await desk.run(*export)).status == 2
    assert (await desk.run(*export, typed="n\n")).status == 1
    assert out.read_text() == "before"
    assert (await desk.run(*export, "--yes")).status == 0
    assert out.read_text() == "A='1'\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
