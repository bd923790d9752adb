"""Requests for the SQL databases of an owner's space."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from embedded_node import embedded_node
from engines import is_on_postgresql, store_at
from kv_client import Owner
from running_node import Reply
from tests_support import FixedClock

from capabilities.strict_json import Json
from node.config.tree import Config, Hosting, Http, Sql


class Databases(Owner):
    """An owner whose space is hosted, and who uses its databases."""

    async def ask(
        self,
        request: object,
        abilities: str | Sequence[str] = ("read", "write"),
        path: str | None = "app",
        *,
        space: str = "default",
        grant: str | None = None,
        owner: Owner | None = None,
    ) -> Reply:
        """Send one request with a token for a database.

        `grant` is the token of a delegation by `owner`, if the database is not one's own.
        """
        names = [abilities] if isinstance(abilities, str) else abilities
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        resource = f"{(owner or self).space_named(space).text}/sql" + (
            "" if path is None else f"/{path}"
        )
        grants: dict[str, dict[str, list[dict[str, Json]]]] = {
            resource: {f"tinycloud.sql/{name}": [{}] for name in names}
        }
        proofs = [] if grant is None else [grant]
        return await self.invoke(token=self.token_of(grants, proofs=proofs), body=body)

    async def post(self, route: str, token: str) -> None:
        """Send a token to a route that must accept it."""
        headers = {"Authorization": token}
        async with self.session.post(f"{self.node.url}/{route}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()

    async def query(self, sql: str, *params: object, path: str = "app", **options: object) -> Any:
        """Return the rows of a query that must succeed."""
        reply = await self.ask(
            {"action": "query", "sql": sql, "params": params, **options}, path=path
        )
        assert reply.status == 200, reply.body
        return json.loads(reply.body)["rows"]

    async def execute(self, sql: str, *params: object, path: str = "app") -> Any:
        """Run a statement that must succeed."""
        reply = await self.ask({"action": "execute", "sql": sql, "params": params}, path=path)
        assert reply.status == 200, reply.body
        return json.loads(reply.body)

    async def refused(
        self, sql: str, abilities: str | Sequence[str] = ("read", "write"), action: str = "query"
    ) -> tuple[int, str]:
        """Return the status and text of the answer to one statement."""
        reply = await self.ask({"action": action, "sql": sql}, abilities)
        return reply.status, reply.body.decode()


@asynccontextmanager
async def databases_at(
    folder: Path, clock: FixedClock, *, sql: Sql | None = None, quota_bytes: int = 0
) -> AsyncIterator[Databases]:
    """Return an owner of databases at a new node in this process."""
    if is_on_postgresql():
        pytest.skip("databases need the store in the data folder")
    config = Config(
        http=Http(port=0, drain_s=0),
        store=store_at(folder),
        hosting=Hosting(default_quota_bytes=quota_bytes),
        sql=sql or Sql(),
    )
    async with embedded_node(config, clock=clock) as node, aiohttp.ClientSession() as session:
        owner = Databases(node, session, clock)
        assert (await owner.put("a", b"")).status == 200  # hosts the space
        yield owner
