"""Tests of `Secrets.etags` and `Secrets.read_many`: versions of secrets without their values."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from relay import relay_before

from sealspace.client import Client
from sealspace.errors import SessionExpired
from sealspace.secrets import Secrets
from sealspace.session import Session
from sealspace.wire.token_line import read_token

NAMES = [f"KEY_{number}" for number in range(12)]


@asynccontextmanager
async def observed(
    bench: Any, session: Session
) -> AsyncIterator[tuple[Secrets, list[web.Request]]]:
    """Yield the secrets of a session, and the authorised requests for them."""
    asked: list[web.Request] = []

    async def note(request: web.Request) -> None:
        if request.path != "/info":
            asked.append(request)

    async with relay_before(bench.node.url) as relay:
        relay.hold = note
        client = Client(relay.url, session=session, clock=bench.clock, entropy=bench.entropy)
        async with client:
            yield client.secrets(), asked


async def test_one_request_for_all_versions(bench: Any) -> None:
    """An owner reads all versions with one request, and opens nothing."""
    owner, _ = await bench.owner()
    await owner.secrets().put_many(dict.fromkeys(NAMES, "first"))
    async with observed(bench, owner.session) as (secrets, asked):
        read = await secrets.read_many(NAMES)
        known = {name: secret.etag for name, secret in read.items()}
        assert [secret.value for secret in read.values()] == ["first"] * len(NAMES)
        asked.clear()
        assert await secrets.etags(known) == known
        assert [request.path for request in asked] == ["/invoke"]
        asked.clear()
        await owner.secrets().put("KEY_3", "second")
        await owner.secrets().delete("KEY_4")
        etags = await secrets.etags(known)
        assert [request.path for request in asked] == ["/invoke"]
    assert list(etags) == [name for name in NAMES if name != "KEY_4"]
    assert [name for name, etag in etags.items() if etag != known[name]] == ["KEY_3"]
    assert etags["KEY_3"] == await owner.secrets().version("KEY_3")


async def test_MT2_a_machine_token_sends_conditional_requests(bench: Any) -> None:
    """A machine token may not read metadata (MT2): it sends the known versions, and opens
    nothing."""
    owner, wallet = await bench.owner()
    await owner.secrets().put_many(dict.fromkeys(NAMES, "first"), scope="ci")
    line = await owner.delegations.create_token("deploy", NAMES, scope="ci", wallet=wallet)
    async with observed(bench, read_token(line)) as (secrets, asked):
        read = await secrets.read_many(NAMES, scope="ci")
        known = {name: secret.etag for name, secret in read.items()}
        asked.clear()
        assert await secrets.etags(known, scope="ci") == known
        assert sorted(known.values()) == sorted(
            request.headers["If-None-Match"] for request in asked
        )
        await owner.secrets().put("KEY_3", "second", scope="ci")
        await owner.secrets().delete("KEY_4", scope="ci")
        etags = await secrets.etags(known, scope="ci")
        assert {request.path for request in asked} == {"/invoke"}
        assert list(etags) == [name for name in NAMES if name != "KEY_4"]
        assert [name for name, etag in etags.items() if etag != known[name]] == ["KEY_3"]
        await owner.delegations.revoke(read_token(line).grants[0].cid)
        with pytest.raises(SessionExpired, match="the machine token deploy was revoked"):
            await secrets.etags(known, scope="ci")
