"""Replay of the SQL with which a JavaScript client indexes an account when it signs in.

The requests have the form of that client: the abilities in each token, the members of each body,
and which statements share a batch.
"""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from conformance.minting import key_token, wallet_grant
from conformance.replay_node import ReplayNode, ReplayNodes
from conformance.test_complete_exchange import NOW, SESSION, WALLET, post
from wire_replay import Answer, token_id

OWNER = "tinycloud:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
ACCOUNT, SECRETS = f"{OWNER}:account/sql/account", f"{OWNER}:secrets/sql/default"
MIGRATIONS = """CREATE TABLE IF NOT EXISTS __tinycloud_sql_migrations (
  key TEXT PRIMARY KEY, namespace TEXT NOT NULL, id TEXT NOT NULL, applied_at TEXT NOT NULL,
  statement_count INTEGER NOT NULL
)"""
MIGRATED = (
    "INSERT OR REPLACE INTO __tinycloud_sql_migrations"
    " (key, namespace, id, applied_at, statement_count) VALUES (?, ?, ?, ?, ?)"
)
AT = "2026-05-28T20:26:40.000Z"
TABLES = (
    "applications (app_id TEXT PRIMARY KEY, name TEXT, updated_at TEXT NOT NULL, manifest_json"
    " TEXT NOT NULL)",
    "application_state (app_id TEXT PRIMARY KEY, manifest_hash TEXT NOT NULL, indexed_at TEXT NOT"
    " NULL)",
    "spaces (space_id TEXT PRIMARY KEY, name TEXT NOT NULL, owner_did TEXT NOT NULL, type TEXT NOT"
    " NULL, permissions_json TEXT NOT NULL, status TEXT NOT NULL, registered_at TEXT, updated_at"
    " TEXT, expires_at TEXT)",
    "delegations (cid TEXT PRIMARY KEY, direction TEXT NOT NULL, space_id TEXT NOT NULL, space_name"
    " TEXT, expiry TEXT NOT NULL)",
    "sync_state (source TEXT PRIMARY KEY, synced_at TEXT NOT NULL, count INTEGER NOT NULL)",
)
INDEXES = (
    "applications_name ON applications(name)",
    "applications_updated ON applications(updated_at)",
    "spaces_name ON spaces(name)",
    "delegations_space ON delegations(space_id)",
    "delegations_expiry ON delegations(expiry)",
)
ADD_SPACE = "INSERT OR REPLACE INTO spaces VALUES "
APPLICATIONS = (
    "SELECT applications.app_id, name, application_state.manifest_hash FROM applications LEFT JOIN"
    " application_state ON applications.app_id = application_state.app_id ORDER BY"
    " applications.app_id"
)
SYNCED = "SELECT source, synced_at, count FROM sync_state ORDER BY source"


def session_grant(resource: str) -> str:
    """Return the wallet's grant for one database."""
    return wallet_grant(
        WALLET,
        audience=SESSION.did_url,
        grants={resource: [f"tinycloud.sql/{name}" for name in ("read", "schema", "write")]},
        nonce="sessnonce0002",
        issued_at="2026-01-02T03:04:05.000Z",
        expires_at="2036-01-02T03:04:05.000Z",
    )


class Index:
    """A client of one database.

    It cites the wallet's grant for it, or for another one."""

    def __init__(self, node: ReplayNode, resource: str, granted: str | None = None) -> None:
        self._node = node
        self._resource = resource
        self._proof = token_id(session_grant(granted or resource))
        self._count = 0

    async def ask(self, abilities: Sequence[str], body: dict[str, Any]) -> Answer:
        self._count += 1
        token = key_token(
            SESSION,
            audience=SESSION.did,
            grants={self._resource: [f"tinycloud.sql/{name}" for name in abilities]},
            expires_at=NOW + 60,
            proofs=[self._proof],
            nonce=f"{self._resource} {self._count}",
        )
        asked = ("content-type", "application/json")
        return await post(self._node, "/invoke", token, asked, body=json.dumps(body).encode())

    async def batch(self, abilities: Sequence[str], *statements: dict[str, Any]) -> list[int]:
        answer = await self.ask(abilities, {"action": "batch", "statements": statements})
        assert answer.status == 200, answer.body
        return [one["changes"] for one in json.loads(answer.body)["results"]]

    async def rows(self, sql: str, params: Sequence[Any] = ()) -> list[list[Any]]:
        asked = {"action": "query", "sql": sql, "params": params}
        answer = await self.ask(["read"], asked)
        assert answer.status == 200, answer.body
        rows: list[list[Any]] = json.loads(answer.body)["rows"]
        return rows

    async def migrate(self, namespace: str, tables: Sequence[str]) -> None:
        """Create the tables as a migration of the client."""
        both = ["schema", "write"]
        own = ["meta:000", "meta", "000", AT, 1]
        assert await self.batch(both, {"sql": MIGRATIONS}, {"sql": MIGRATED, "params": own}) == [
            0,
            1,
        ]
        applied = (
            "SELECT id FROM __tinycloud_sql_migrations WHERE namespace = ? ORDER BY applied_at, id"
        )
        assert await self.rows(applied, [namespace]) == []
        made = [f"{namespace}:001", namespace, "001", AT, len(tables)]
        done = await self.batch(
            both, *({"sql": sql} for sql in tables), {"sql": MIGRATED, "params": made}
        )
        assert done == [0] * len(tables) + [1]
        assert await self.rows(applied, [namespace]) == [["001"]]


async def signed_in(node: ReplayNode, resource: str) -> Index:
    answer = await post(node, "/delegate", session_grant(resource))
    assert answer.status == 200, answer.body
    return Index(node, resource)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_sign_in_makes_the_index(default_nodes: ReplayNodes) -> None:
    """Each step of the client succeeds, and its lists contain the rows that the steps wrote."""
    node = await default_nodes.new_node()
    index = await signed_in(node, ACCOUNT)
    missing = await index.ask(["read"], {"action": "query", "sql": SYNCED, "params": []})
    assert missing.status == 400
    assert b"no such table:" in missing.body

    tables = [f"CREATE TABLE IF NOT EXISTS {one}" for one in TABLES]
    await index.migrate("account", [*tables, *(f"CREATE INDEX IF NOT EXISTS {i}" for i in INDEXES)])
    spaces = [
        [f"{OWNER}:{name}", name, OWNER, "owned", "[]", "active", AT, AT, None]
        for name in ("default", "account")
    ]
    places = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?)"] * len(spaces))
    several = {"sql": ADD_SPACE + places, "params": [cell for space in spaces for cell in space]}
    assert await index.batch(["write"], several) == [2]
    application = ["com.example.notes", None, AT, '{"name":"it\'s"}']
    state = ["com.example.notes", "hash", AT]
    for _ in range(2):  # signing in again replaces the rows
        assert await index.batch(
            ["write"],
            {
                "sql": "INSERT OR REPLACE INTO applications VALUES (?, ?, ?, ?)",
                "params": application,
            },
            {"sql": "INSERT OR REPLACE INTO application_state VALUES (?, ?, ?)", "params": state},
        ) == [1, 1]

    known = "SELECT 1 FROM application_state WHERE app_id = ? AND manifest_hash = ? LIMIT 1"
    assert await index.rows(known, ["com.example.notes", "hash"]) == [[1]]
    assert await index.rows(APPLICATIONS) == [["com.example.notes", None, "hash"]]
    listed = await index.rows("SELECT * FROM spaces ORDER BY name, space_id")
    assert listed == [spaces[1], spaces[0]]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_index_is_rebuilt_in_one_batch(default_nodes: ReplayNodes) -> None:
    """A batch of hundreds of statements replaces all rows, or none if the last statement fails."""
    node = await default_nodes.new_node()
    index = await signed_in(node, ACCOUNT)
    await index.migrate("account", [f"CREATE TABLE IF NOT EXISTS {one}" for one in TABLES])
    emptied = [{"sql": f"DELETE FROM {one.partition(' ')[0]}"} for one in TABLES]
    grants = [
        {
            "sql": "INSERT INTO delegations VALUES (?, ?, ?, ?, ?)",
            "params": [f"cid{number}", "issued", f"{OWNER}:default", None, AT],
        }
        for number in range(300)
    ]
    synced = {"sql": "INSERT INTO sync_state VALUES (?, ?, ?)", "params": ["delegations", AT, 300]}
    assert await index.batch(["write"], *emptied, *grants, synced) == [0] * 5 + [1] * 301
    failed = await index.ask(
        ["write"], {"action": "batch", "statements": [*emptied, grants[0], synced, synced]}
    )
    assert failed.status == 400
    assert await index.rows(SYNCED) == [["delegations", AT, 300]]
    of_space = (
        "SELECT count(*) FROM delegations WHERE direction = ? AND (space_id = ? OR space_name = ?)"
    )
    place = f"{OWNER}:default"
    assert await index.rows(of_space, ["issued", place, place]) == [[300]]


@pytest.mark.asyncio(loop_scope="module")
async def test_notes_on_secrets(default_nodes: ReplayNodes) -> None:
    """The secrets page keeps its notes in a separate database, in a table with a two-column key."""
    node = await default_nodes.new_node()
    records = await signed_in(node, SECRETS)
    table = (
        "CREATE TABLE IF NOT EXISTS secret_records (scope TEXT NOT NULL, name TEXT NOT NULL, notes"
        " TEXT, PRIMARY KEY (scope, name))"
    )
    await records.migrate("secrets", [table])
    note = {
        "sql": "INSERT OR REPLACE INTO secret_records VALUES (?, ?, ?)",
        "params": ["", "API_KEY", "of the test account"],
    }
    assert await records.batch(["write"], note, note) == [1, 1]
    assert await records.rows("SELECT count(*) FROM secret_records") == [[1]]


@pytest.mark.asyncio(loop_scope="module")
async def test_texts_that_the_client_reads(default_nodes: ReplayNodes) -> None:
    """The refusals contain the texts from which the client learns which right to request."""
    node = await default_nodes.new_node()
    index = await signed_in(node, ACCOUNT)
    pragma = await index.ask(["write"], {"action": "query", "sql": "PRAGMA user_version"})
    assert pragma.status == 401
    assert pragma.body == f"Unauthorized Action: {ACCOUNT} / tinycloud.sql/admin".encode()
    other = await Index(node, SECRETS, ACCOUNT).ask(
        ["read"], {"action": "query", "sql": "SELECT 1"}
    )
    assert other.status == 401
    assert other.body == f"Unauthorized Action: {SECRETS} / tinycloud.sql/read".encode()
