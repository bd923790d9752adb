"""Random SQL statements, many of them hostile, and a view of the files that SQLite opens."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

HOSTILE = "load_extension readfile writefile edit fts3_tokenizer sqlite_log sqlite_version carray"
TABLES = (
    "notes", "private", "made", "v", "sqlite_master", "sqlite_schema", "sqlite_sequence",
    "temp.sqlite_master", "sqlite_stat1", "sqlite_dbpage", "dbstat", "json_each('[1,2]')",
    "pragma_table_info('notes')", "pragma_database_list", "pragma_function_list",
    "bytecode('SELECT 1')", "carray(1, 2)", "fsdir('.')", "generate_series(1, 9)", "main.notes",
    "temp.x", "x.notes", "fts5vocab('a', 'b')", "sqlite_stmt",
)  # fmt: skip
COLUMNS = ("id", "body", "secret", "rowid", "*", "sql", "name", "file", "nosuch", "1", "NULL")


class Names(apsw.VFS):
    """A file system for SQLite that records the name of every file that it opens."""

    def __init__(self) -> None:
        self.opened: set[str] = set()
        super().__init__("names", "", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        self.opened.add(
            name.filename() if isinstance(name, apsw.URIFilename) else name or "without a name"
        )
        return super().xOpen(name, flags)


@contextmanager
def opened_files() -> Iterator[set[str]]:
    """Return the names of the files that SQLite opens until the block ends."""
    names = Names()
    try:
        yield names.opened
    finally:
        names.unregister()


class Statements:
    """A source of statements for a database with the tables `notes` and `private`.

    Args:
        seed: of the random numbers.
        places: paths outside the database, which appear in statements.
    """

    def __init__(self, seed: int, places: tuple[str, ...]) -> None:
        self.random = random.Random(seed)
        self.places = places
        memory = apsw.Connection(":memory:")
        listed = memory.execute("SELECT name, narg FROM pragma_function_list").fetchall()
        # Each function with its number of arguments; -1 is any number.
        self.functions = sorted(
            {(str(name), int(str(count))) for name, count in listed}
            | {(name, 1) for name in HOSTILE.split()}
        )
        self.pragmas = [name for (name,) in memory.execute("SELECT name FROM pragma_pragma_list")]
        self.modules = [name for (name,) in memory.execute("SELECT name FROM pragma_module_list")]
        memory.close()

    def one(self) -> str:
        """Return a random statement, or a text that resembles one."""
        text = self._statement()
        kind = self.random.random()
        if kind < 0.05:
            return f"{text}; {self._statement()}"
        if kind < 0.1:
            return f"/* {self._name()} */ {text} -- {self._name()}"
        if kind < 0.2:
            return self._damaged(text)
        if kind < 0.25:
            return text.upper()
        return text

    def _pick(self, *texts: str) -> str:
        return self.random.choice(texts)

    def _place(self) -> str:
        return self.random.choice(self.places)

    def _name(self) -> str:
        return self._pick("made", "v", "tr", "i", "x", "notes", "private", "sqlite_x", '"a b"')

    def _damaged(self, text: str) -> str:
        """Return a text in which a few words are removed, repeated or replaced."""
        words = text.split(" ")
        for _ in range(self.random.randint(1, 3)):
            place = self.random.randrange(len(words))
            words[place : place + 1] = self.random.choice(
                ([], [words[place]] * 2, [self._name()], [";"], ["\0"], [self.random.choice(words)])
            ) or [""]
        return " ".join(words)

    def _value(self, depth: int = 0) -> str:
        kind = self.random.randrange(9 if depth < 3 else 6)
        if kind < 2:
            return self._pick("rowid", "1", self._pick(*COLUMNS))
        if kind < 4:
            return self._pick("1", "-1", "'a'", "x'00'", "?1", "9e999", f"'{self._place()}'")
        if kind == 4:
            return self._pick("CURRENT_TIMESTAMP", "rowid", "NULL", "TRUE")
        if kind == 5:
            return "(SELECT body FROM notes LIMIT 1)"
        if kind == 6:
            return f"({self._select(depth + 1)})"
        name, count = self.random.choice(self.functions)
        if count < 0 or self.random.random() < 0.1:
            count = self.random.randrange(1, 4)
        arguments = ", ".join(self._value(depth + 1) for _ in range(count))
        return f"{name}({arguments})" + (" OVER ()" if self.random.random() < 0.1 else "")

    def _table(self) -> str:
        usual = self.random.random() < 0.6
        return self._pick("notes", "private", "v") if usual else self.random.choice(TABLES)

    def _select(self, depth: int = 0) -> str:
        columns = ", ".join(self._value(depth + 1) for _ in range(self.random.randint(1, 3)))
        tables = ", ".join(self._table() for _ in range(self.random.randint(1, 2)))
        text = f"SELECT {columns} FROM {tables}"
        if self.random.random() < 0.3:
            text += f" WHERE {self._value(depth + 1)}"
        if self.random.random() < 0.1:
            text = f"WITH RECURSIVE c AS ({text}) SELECT * FROM c, {self._table()}"
        return f"{text} LIMIT 5"

    def _change(self) -> str:
        table, value = self._table(), self._value()
        return self._pick(
            f"INSERT INTO {table} VALUES ({value}, {self._value()})",
            f"INSERT INTO {table} (body) {self._select()}",
            f"REPLACE INTO notes (id, body) VALUES (1, {value}) RETURNING *",
            f"UPDATE {table} SET {self._pick(*COLUMNS)} = {value}",
            f"DELETE FROM {table} WHERE {value}",
            f"WITH s AS ({self._select()}) DELETE FROM {table}",
        )

    def _definition(self) -> str:
        name, value = self._name(), self._value()
        return self._pick(
            f"CREATE TABLE {name} (id INTEGER PRIMARY KEY AUTOINCREMENT, body DEFAULT ({value}))",
            f"CREATE TABLE IF NOT EXISTS {name} (a CHECK ({value}), b AS ({self._value()}))",
            f"CREATE TABLE {name} AS {self._select()}",
            f"CREATE VIEW {name} AS {self._select()}",
            f"CREATE TRIGGER {name} AFTER INSERT ON notes BEGIN {self._change()}; END",
            f"CREATE INDEX {name} ON notes ({value}) WHERE {self._value()}",
            f"ALTER TABLE {name} RENAME TO {self._name()}",
            f"ALTER TABLE {name} ADD COLUMN c AS ({value})",
            f"ALTER TABLE notes DROP COLUMN {self._pick(*COLUMNS)}",
            f"DROP {self._pick('TABLE', 'VIEW', 'TRIGGER', 'INDEX')} IF EXISTS {name}",
            "ANALYZE",
            "ANALYZE temp",
            f"REINDEX {name}",
        )

    def _hostile(self) -> str:
        place, name, pragma = self._place(), self._name(), self.random.choice(self.pragmas)
        return self._pick(
            f"ATTACH '{place}' AS x",
            f"ATTACH 'file:{place}?mode=rwc' AS {name}",
            "DETACH main",
            "VACUUM",
            f"VACUUM INTO '{place}'",
            f"VACUUM main INTO '{place}'",
            f"CREATE VIRTUAL TABLE {name} USING {self.random.choice(self.modules)} (a, '{place}')",
            f"CREATE VIRTUAL TABLE temp.{name} USING csv (filename='{place}')",
            f"CREATE TEMP TABLE {name} (a)",
            f"CREATE {self._pick('TABLE', 'VIEW')} temp.{name} AS {self._select()}",
            f"{self._pick('DROP TABLE', 'REINDEX', 'ANALYZE', 'DELETE FROM')} temp.{name}",
            f"CREATE TEMP TRIGGER {name} AFTER INSERT ON notes BEGIN {self._change()}; END",
            f"CREATE TEMP VIEW {name} AS {self._select()}",
            f"PRAGMA {pragma}",
            f"PRAGMA {pragma} = {self._value(3)}",
            f"PRAGMA main.{pragma}('{place}')",
            f"SELECT * FROM pragma_{pragma}",
            f"SELECT * FROM pragma_{pragma}('{place}')",
            f"PRAGMA temp_store_directory = '{place}'",
            self._pick("BEGIN", "BEGIN IMMEDIATE", "COMMIT", "END", "ROLLBACK"),
            f"{self._pick('SAVEPOINT', 'RELEASE', 'ROLLBACK TO')} {name}",
            f"EXPLAIN {self._change()}",
            f"EXPLAIN QUERY PLAN {self._change()}",
            f"SELECT {self._pick(*HOSTILE.split())}('{place}', 'x')",
            f"UPDATE sqlite_schema SET sql = 'CREATE TABLE x (a)' WHERE name = '{name}'",
        )

    def _statement(self) -> str:
        make = self.random.choice(
            (self._select, self._select, self._change, self._definition, self._hostile)
        )
        return make()
