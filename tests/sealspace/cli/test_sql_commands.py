"""The commands `sql`, and grants for databases."""

import json
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from owner_desk import OwnerDesk, owner_desk


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """An owner who has logged in."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        yield desk


NOTES = ("--space", "notes")
SCHEMA = """
CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT); -- one table; of notes
CREATE TRIGGER added AFTER INSERT ON note BEGIN
  UPDATE note SET text = text || ';' WHERE id = new.id;
END;
/* the end */
"""


async def test_a_database_from_a_file_of_statements(desk: OwnerDesk) -> None:
    """Semicolons in texts, comments and triggers do not end a statement. All statements are one
    transaction."""
    made = await desk.run("sql", "execute", "app", "-", "--json", given=SCHEMA.encode())
    assert made.status == 0, made
    assert (made.status, json.loads(made.out)) == (
        0,
        [{"changes": 0, "lastInsertRowId": None}] * 2,
    )
    both = "INSERT INTO note (text) VALUES ('a;b'); INSERT INTO note (text) VALUES ('c')"
    assert (await desk.run("sql", "execute", "app", both)).err == "changed rows: 2\n"
    failed = await desk.run("sql", "execute", "app", f"DELETE FROM note; {both}; nonsense")
    assert failed.status == 15, failed
    assert failed.next.startswith("correct or shorten the statement")
    for unfinished in ("DELETE FROM note WHERE text = 'a", "DELETE FROM note; SELECT ("):
        failed = await desk.run("sql", "execute", "app", unfinished)
        assert (failed.status, failed.err.count("\n")) == (15, 2), failed
    rows = await desk.run("sql", "query", "app", "SELECT id, text FROM note ORDER BY id")
    assert rows.out == "1  a;b;\n2  c;\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"CREATE TABLE a (b); SELECT '\xff'", "not UTF-8"),
        (b"CREATE TABLE a (b);" + b" " * 4_200_000, "longer than"),
    ],
)
async def test_a_text_that_cannot_be_read_whole(desk: OwnerDesk, given: bytes, said: str) -> None:
    """If a part of the text cannot be read, none of its statements runs."""
    for command in ("execute", "query"):
        refused = await desk.run("sql", command, "app", "-", given=given)
        assert refused.status == 2, refused
        assert said in refused.err
    assert (await desk.run("sql", "list")).err.startswith("no databases here yet")


async def test_an_argument_that_is_not_utf8(desk: OwnerDesk) -> None:
    """An argument that is not UTF-8 is refused."""
    refused = await desk.run("sql", "execute", "app", "SELECT '\udcff'")
    assert refused.status == 2, refused
    assert "not UTF-8" in refused.err


async def test_parameters_and_their_types(desk: OwnerDesk) -> None:
    """A parameter that looks like a number is one, unless it is in quotes. Any other text is passed
    unchanged."""
    await desk.run("sql", "execute", "app", "CREATE TABLE note (text)")
    given = ["5", "-0.5", "true", "null", '"5"', "it's", "{}", ""]
    sql = f"VALUES ({', '.join('?' * len(given))})"
    options = [part for one in given for part in ("--param", one)]
    found = json.loads((await desk.run("sql", "query", "app", sql, *options, "--json")).out)
    assert found["rows"] == [[5, -0.5, 1, None, "5", "it's", "{}", ""]]
    several = await desk.run("sql", "execute", "app", "SELECT 1; SELECT 2", "--param", "1")
    assert several.status == 2
    shown = await desk.run("sql", "query", "app", "SELECT x'00ff', NULL, 1.5")
    assert shown.out == "00ff  -  1.5\n"


async def test_a_table_on_a_terminal(desk: OwnerDesk) -> None:
    """On a terminal a table has headers and no control characters from the database."""
    await desk.run("sql", "execute", "app", "CREATE TABLE note (text)")
    desk.use_terminal()
    shown = await desk.run("sql", "query", "app", "SELECT 1 AS one, char(27) || '[2J' AS two")
    assert shown.out.splitlines()[0] == "ONE  TWO"
    assert "\x1b" not in shown.out
    nothing = await desk.run("sql", "query", "app", "SELECT 1 WHERE 0")
    assert nothing.out == ""
    assert nothing.err == "no rows\n"


async def test_sizes_and_a_copy(desk: OwnerDesk, tmp_path: Path) -> None:
    """Databases are listed with their sizes; a copy is a file that SQLite opens."""
    assert (await desk.run("sql", "list")).err.startswith("no databases here yet")
    await desk.run("sql", "execute", "app", "CREATE TABLE note (text)")
    listed = json.loads((await desk.run("sql", "list", "--json")).out)
    assert list(listed) == ["app"]
    assert listed["app"] > 0
    copy = tmp_path / "copy.sqlite"
    ran = await desk.run("sql", "export", "app", "--out", str(copy))
    assert (ran.status, ran.err) == (0, f"wrote {copy.stat().st_size} bytes\n")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    copy.chmod(0o644)
    assert (await desk.run("sql", "export", "app", "--out", str(copy), "--yes")).status == 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as copied:
        assert copied.execute("SELECT * FROM note").fetchall() == []
    missing = await desk.run("sql", "export", "other", "--out", str(tmp_path / "other"))
    assert (missing.status, missing.next) == (21, "sealspace sql list")


async def test_another_space(desk: OwnerDesk) -> None:
    """Databases work at once in a space that the command creates."""
    assert (await desk.run("space", "create", "notes")).status == 0
    made = await desk.run("sql", "execute", "app", "CREATE TABLE a (b)", "--space", "notes")
    assert made.status == 0, made
    assert (await desk.run("sql", "query", "app", "SELECT * FROM a")).status == 21
    assert (await desk.run("sql", "query", "app", "SELECT * FROM a", *NOTES)).err == "no rows\n"
    unknown = await desk.run("sql", "query", "app", "SELECT 1", "--space", "nowhere")
    assert (unknown.status, unknown.next) == (21, "sealspace space create nowhere")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO note VALUES ('b')",
        "INSERT INTO note VALUES ('b') RETURNING text",
        "WITH one AS (SELECT 'b' AS text) INSERT INTO note SELECT text FROM one",
        "/* why */ update note SET text = 'b'",
        "DROP TABLE note",
        "CREATE TABLE other (a)",
        "PRAGMA user_version = 5",
        "PRAGMA user_version(5)",
        "pragma main.optimize;",
    ],
)
async def test_a_query_does_not_write(desk: OwnerDesk, sql: str) -> None:
    """A statement that changes the database is refused, and the next step names `sql execute`."""
    await desk.run("sql", "execute", "app", "CREATE TABLE note (text)")
    await desk.run("sql", "execute", "app", "INSERT INTO note VALUES ('a')")
    refused = await desk.run("sql", "query", "app", sql)
    assert (refused.status, refused.next) == (2, "use: sealspace sql execute app SQL"), refused
    assert (await desk.run("sql", "query", "app", "SELECT text FROM note")).out == "a\n"
    tables = "SELECT count(*) FROM sqlite_schema"
    assert (await desk.run("sql", "query", "app", tables)).out == "1\n"
    assert (await desk.run("sql", "query", "app", "PRAGMA user_version")).out == "0\n"
    described = await desk.run("sql", "query", "app", "PRAGMA table_info(note)")
    assert described.out.startswith("0  text"), described


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "INSERT INTO note VALUES ('b') RETURNING text",
        "INSERT INTO note VALUES ('b'); SELECT 1",
    ],
)
async def test_execute_prints_no_rows(desk: OwnerDesk, sql: str) -> None:
    """A statement that returns rows is refused with what to do instead, and nothing changes."""
    await desk.run("sql", "execute", "app", "CREATE TABLE note (text)")
    refused = await desk.run("sql", "execute", "app", sql)
    assert refused.status == 2, refused
    assert refused.next == "to read: sealspace sql query app SQL; to change, omit RETURNING"
    assert (await desk.run("sql", "query", "app", "SELECT * FROM note")).err == "no rows\n"


async def test_a_query_of_a_database_that_does_not_exist(desk: OwnerDesk) -> None:
    """The error names the database, the most similar one, and the command that makes one."""
    await desk.run("sql", "execute", "notes", "CREATE TABLE note (text)")
    missing = await desk.run("sql", "query", "note", "SELECT 1")
    assert (missing.status, missing.happened) == (
        21,
        "there is no database note in the space default",
    )
    assert missing.next == (
        "did you mean notes? or list all: sealspace sql list; to create it: sealspace sql execute"
        " note SQL"
    )
    assert "notes" in (await desk.run("sql", "list")).out
    await desk.run("space", "create", "other")
    missing = await desk.run("sql", "query", "notes", "SELECT 1", "--space", "other")
    assert missing.next.startswith("sealspace sql list --space other; to create it"), missing


async def test_a_grant_for_a_database(desk: OwnerDesk, tmp_path: Path) -> None:
    """The recipient can read only this database."""
    await desk.run("sql", "execute", "app", "CREATE TABLE note (text)")
    other, file = tmp_path / "other", tmp_path / "grant.json"
    await desk.run("login", desk.node, "--new", home=other)
    did = json.loads((await desk.run("whoami", "--json", home=other)).out)["owner"]
    granted = await desk.run(
        "grant", "create", did, "--space", "default", "--database", "app", "--out", str(file)
    )
    assert "query the database app and what is below it in the space default" in granted.err, (
        granted
    )
    accepted = await desk.run("grant", "accept", str(file), home=other)
    assert accepted.status == 0, accepted
    space = json.loads((await desk.run("space", "info", "default", "--json")).out)["id"]
    assert accepted.err.endswith(f"sql query --space {space} app SQL\n"), accepted
    theirs = ("--space", space)
    read = await desk.run("sql", "query", "app", "SELECT * FROM note", *theirs, home=other)
    assert (read.status, read.err) == (0, "no rows\n"), read
    for words in (("execute", "app", "DELETE FROM note"), ("query", "other", "SELECT 1")):
        refused = await desk.run("sql", *words, *theirs, home=other)
        assert refused.status == 22, refused
        assert "this session may not" in refused.err


async def test_a_new_grant_after_a_revoked_one(desk: OwnerDesk, tmp_path: Path) -> None:
    """The error names the login that makes the session use the new grant."""
    await desk.run("sql", "execute", "app", "CREATE TABLE note (text)")
    other, query = tmp_path / "other", ("sql", "query", "app", "SELECT * FROM note")
    await desk.run("login", desk.node, "--new", home=other)
    did = json.loads((await desk.run("whoami", "--json", home=other)).out)["owner"]
    for actions in ("read,schema", "write"):
        file = str(tmp_path / f"{actions}.json")
        app = ("--space", "default", "--database", "app", "--can", actions)
        await desk.run("grant", "create", did, *app, "--out", file)
        accepted = await desk.run("grant", "accept", file, "--json", home=other)
        # To write includes to read.
        assert ("edit the database app" in accepted.err) is (actions == "write")
        query += ("--space", *json.loads(accepted.out)["spaces"])
        ran = await desk.run(*query, home=other)
        if actions == "write":  # the session still has the first grant
            again, _, _ = ran.next.partition(",")
            assert (await desk.run(*again.split()[1:], home=other)).status == 0, ran
            ran = await desk.run(*query, home=other)
        assert ran.status == 0, ran
        assert (await desk.run("grant", "revoke", file)).status == 0
        refused = await desk.run(*query, home=other)
        assert refused.status == 22, refused
        assert "was revoked" in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ("--database", "app"),
        ("--space", "default", "--database", "app", "--path", "a"),
        ("--space", "default", "--database", "app", "--can", "get"),
        ("--space", "default", "--database", ""),
        ("--space", "default", "--path", ""),
        ("--space", "default", "--can", ""),
    ],
)
async def test_a_grant_that_contradicts_itself(desk: OwnerDesk, words: tuple[str, ...]) -> None:
    """A grant is for values or for one database. Actions of the other kind and an empty name are
    refused."""
    assert (await desk.run("grant", "create", "did:key:z6Mk", *words)).status == 2
