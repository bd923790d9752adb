"""What a node may offer besides values: shared secrets, SQL databases, tasks."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from sealspace_conformance.encodings import b64url
from sealspace_conformance.envelopes import envelope, new_receiver, seal, wrap
from sealspace_conformance.expectations import (
    Expectation,
    begins,
    data,
    json_body,
    members,
    status,
    text,
)
from sealspace_conformance.groups.delegations import GET, LIST
from sealspace_conformance.groups.networks import NETWORKS
from sealspace_conformance.groups.owned_rules import RECEIPTS, sealspace_owner
from sealspace_conformance.keys import Key, new_key
from sealspace_conformance.run import Owner, Run, Unsuitable, fresh_name
from sealspace_conformance.tokens import SignIn, Token, plain
from sealspace_conformance.transport import Answer

_JSON = {"content-type": "application/json"}


async def sharing(run: Run) -> None:
    """Check a copy of a secret for one person: who reads it, and that the owner sees it."""
    owner = sealspace_owner(run)
    person = new_key()
    network = new_receiver()
    folder = f"vault/secrets/shared/{person.did}/{b64url(network.public)}"
    path = f"{folder}/KIT_SECRET"
    content_key = secrets.token_bytes(32)
    copy = envelope(
        f"urn:tinycloud:encryption:{person.did}:default",
        wrap(network.public, content_key),
        seal(content_key, b'{"value":"shared"}'),
    )
    body = json.dumps(copy).encode()
    await run.prepare("a copy", run.kv_call("put", path, space="secrets"), body=body)
    own = run.kv_call("put", "vault/secrets/KIT_SECRET", space="secrets")
    await run.prepare("a secret", own, body=body)
    space = owner.space("secrets")
    right = SignIn(
        wallet=owner.wallet,
        audience=person.did,
        grants={f"{space}/kv/{folder}": plain(GET, LIST)},
        issued_at=run.now(),
        ends_at=run.now() + 600,
    ).sign()
    await run.delegate("SH3", "a grant of the folder", members({"cid": right.cid}), right)

    def reading(ability: str, place: str) -> Token:
        return run.call(person, {f"{space}/kv/{place}": plain(ability)}, proofs=[right])

    await run.invoke("SH3", "the person lists it", json_body([path]), reading(LIST, folder))
    await run.invoke("SH3", "the person reads the copy", data(body), reading(GET, path))
    secret = "vault/secrets/KIT_SECRET"
    await run.invoke(
        "SH3",
        "the person reads the owner's secret",
        text(401, f"Unauthorized Action: {space}/kv/{secret} / {GET}"),
        reading(GET, secret),
    )
    listed = status(200).and_that(
        "the person's read", lambda answer: _has_fetch(answer, person, space, path)
    )
    await run.ask(
        "RC35",
        "the owner lists who read copies",
        listed,
        "GET",
        f"{NETWORKS}/{owner.network()}/fetches",
        token=run.call(
            owner.session,
            {owner.network(): plain(RECEIPTS)},
            audience=run.did,
            proofs=[owner.sign_in],
        ),
    )
    revoking = run.call(
        owner.session, {f"urn:cid:{right.cid}": plain("tinycloud.delegation/revoke")}
    )
    # The session is neither delegator nor delegate, and the owner's wallet is: W22.
    await run.ask(
        "W22",
        "the session revokes the wallet's grant",
        text(403, "Unauthorized Revoker"),
        "POST",
        "/revoke",
        token=revoking,
    )


def _has_fetch(answer: Answer, person: Key, space: str, path: str) -> bool:
    fetches = answer.object.get("fetches")
    if not isinstance(fetches, list):
        return False
    return any(
        isinstance(item, dict)
        and item.get("reader") == person.did
        and item.get("space") == space
        and item.get("path") == path
        for item in fetches
    )


class Database:
    """A database of the owner's space, and requests of the session."""

    def __init__(self, run: Run, owner: Owner) -> None:
        self.run = run
        self.owner = owner
        self.resource = f"{owner.space()}/sql/{fresh_name()}"

    async def ask(
        self,
        rule: str,
        asked: str,
        expectation: Expectation,
        body: Mapping[str, Any],
        *abilities: str,
        signer: Key | None = None,
        proofs: Any = None,
    ) -> Answer:
        """Send a request with some abilities; all of them when none is given."""
        rights = plain(
            *(f"tinycloud.sql/{name}" for name in abilities or ("admin", "read", "write"))
        )
        token = self.run.call(
            signer or self.owner.session,
            {self.resource: rights},
            proofs=[self.owner.sign_in] if proofs is None else proofs,
        )
        sent = json.dumps(body).encode()
        return await self.run.invoke(rule, asked, expectation, token, body=sent, headers=_JSON)


async def sql(run: Run) -> None:
    """Check SQL databases where the node has them."""
    owner = run.hosted_owner()
    database = Database(run, owner)
    if "sql" not in run.features:
        offered = text(501, "SQL support is not enabled on this node")
        await database.ask("7.2", "a query", offered, {"action": "query", "sql": "SELECT 1"})
        raise Unsuitable("this node does not list sql in its features")
    await _statements(database)
    await _refused_statements(database)
    await _abilities(run, database)
    await _caveats(run, database)


async def _statements(database: Database) -> None:
    one = {"columns": ["one"], "rows": [[1]], "rowCount": 1}
    await database.ask(
        "SQ2",
        "query a database that does not exist",
        json_body(one),
        {"action": "query", "sql": "SELECT 1 AS one"},
        "read",
    )
    created = {"action": "execute", "sql": "CREATE TABLE notes (id INTEGER PRIMARY KEY, text)"}
    await database.ask("SQ4", "create a table", members({"changes": 0}), created)
    insert = "INSERT INTO notes (text) VALUES (?)"
    await database.ask(
        "SQ4",
        "insert a row",
        json_body({"changes": 1, "lastInsertRowId": 1}),
        {"action": "execute", "sql": insert, "params": ["first"]},
        "write",
    )
    await database.ask(
        "SQ4",
        "insert two rows in a batch",
        json_body(
            {
                "results": [
                    {"changes": 1, "lastInsertRowId": 2},
                    {"changes": 1, "lastInsertRowId": 3},
                ]
            }
        ),
        {
            "action": "batch",
            "statements": [
                {"sql": insert, "params": ["second"]},
                {"sql": insert, "params": [True]},
            ],
        },
        "write",
    )
    failing = [{"sql": insert, "params": ["lost"]}, {"sql": "INSERT INTO nothere VALUES (1)"}]
    await database.ask(
        "SQ11",
        "a batch whose second statement fails",
        status(400),
        {"action": "batch", "statements": failing},
        "write",
    )
    await database.ask(
        "SQ5",
        "read the rows: nothing of the failed batch, and true as 1",
        json_body(
            {
                "columns": ["id", "text"],
                "rows": [[1, "first"], [2, "second"], [3, 1]],
                "rowCount": 3,
            }
        ),
        {"action": "query", "sql": "SELECT id, text FROM notes ORDER BY id"},
        "read",
    )


async def _refused_statements(database: Database) -> None:
    for rule, asked, statement in (
        ("SQ7", "two statements in one text", "SELECT 1; SELECT 2"),
        ("SQ8", "open another file", "ATTACH 'other.db' AS other"),
        ("SQ8", "a temporary table", "CREATE TEMP TABLE t (a)"),
        ("SQ8", "a transaction", "BEGIN"),
        ("SQ8", "VACUUM", "VACUUM"),
    ):
        await database.ask(
            rule, asked, status(400, 401, 403), {"action": "execute", "sql": statement}
        )
    await database.ask(
        "SQ6",
        "more rows than are asked for",
        status(413),
        {"action": "query", "sql": "SELECT id FROM notes", "maxRows": 1},
        "read",
    )
    await database.ask("SQ4", "a body without an action", status(400), {"sql": "SELECT 1"})


async def _abilities(run: Run, database: Database) -> None:
    writing = {"action": "execute", "sql": "DELETE FROM notes"}
    await database.ask(
        "SQ10", "write with the right to read", begins(403, "Read-only violation"), writing, "read"
    )
    pragma = {"action": "query", "sql": "PRAGMA user_version"}
    admin = text(401, f"Unauthorized Action: {database.resource} / tinycloud.sql/admin")
    await database.ask("SQ10", "a PRAGMA without the right to it", admin, pragma, "write")
    await database.ask(
        "I31",
        "a stranger's query",
        text(401, "Cannot find parent delegation"),
        {"action": "query", "sql": "SELECT 1"},
        "read",
        signer=new_key(),
        proofs=[],
    )
    other = f"{database.owner.space()}/sql/{fresh_name()}"
    two = run.call(
        database.owner.session,
        {database.resource: plain("tinycloud.sql/read"), other: plain("tinycloud.sql/read")},
        proofs=[database.owner.sign_in],
    )
    await run.invoke(
        "SQ3",
        "two databases in one token",
        text(400, "Ambiguous sql capabilities span multiple database paths"),
        two,
        body=b'{"action":"query","sql":"SELECT 1"}',
        headers=_JSON,
    )


async def _caveats(run: Run, database: Database) -> None:
    reader = new_key()
    odd = {database.resource: {"tinycloud.sql/read": [{"colour": "green"}]}}
    await run.delegate(
        "D32",
        "a grant with an unknown condition",
        text(401, "child-caveats-not-subset-of-parent: sql-caveat-unknown"),
        run.grant(database.owner.session, reader, odd, proofs=[database.owner.sign_in]),
    )
