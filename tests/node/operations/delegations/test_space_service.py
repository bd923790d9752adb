"""Tests of `tinycloud.space/{list,info,create}`, by which delegates see and create an owner's
spaces."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from audit_records import audit_records
from delegation_bench import ALICE, BOB, CAROL, GET, MALLORY, SECOND, SESSION, Delegating, space

from capabilities.resources import parse_space_id
from node.config.tree import Hosting
from node.operations.authorise import admit_token
from node.operations.delegations.space_service import list_spaces

LIST, INFO, CREATE = (f"tinycloud.space/{name}" for name in ("list", "info", "create"))
HOST = "tinycloud.space/host"
GRANTS = {f"{space()}/kv": [GET], f"{space()}/space": [LIST, INFO, CREATE]}
HOSTED_AT = "2026-11-18T11:06:40Z"


async def create(people: Delegating, name: str, *proofs: str, key: Any = SESSION) -> Any:
    return await people.invoke(key, f"{space()}/space/{name}", CREATE, *proofs)


async def info(people: Delegating, target: str, *proofs: str, key: Any = SESSION) -> Any:
    return await people.invoke(key, f"{space()}/space/{target}", INFO, *proofs)


async def test_a_space_is_made_reported_and_listed(people) -> None:
    """A session creates a space, which stores values and is shown with id, name, owner and time."""
    session = await people.sign_in(
        grants={**GRANTS, f"{space(name='photos')}/kv": ["tinycloud.kv/put"]}
    )
    other = await people.sign_in(grants=GRANTS)
    made = json.loads((await create(people, "notes", other)).text)
    entry = {"id": space(name="notes"), "name": "notes", "owner": ALICE.did, "createdAt": HOSTED_AT}
    assert made == entry
    limit_bytes = Hosting().default_quota_bytes
    use = {
        "usageBytes": 0,
        "limitBytes": limit_bytes,
        "space": {"usedBytes": 0, "limitBytes": limit_bytes},
    }
    assert {**entry, "type": "owned", **use} == json.loads(
        (await info(people, "notes", other)).text
    )
    for path in ("", "/"):
        reply = await people.invoke(SESSION, f"{space()}/space{path}", LIST, other)
        assert [space(name=name) for name in ("default", "notes", "photos")] == [
            one["id"] for one in json.loads(reply.text)
        ]
        assert entry in json.loads(reply.text)
        assert "x-tinycloud-truncated" not in reply.headers
    assert session != other


@pytest.mark.parametrize("path", ["", "/"])
async def test_the_usage_of_the_named_space(meet, path: str) -> None:
    """Without a target, `space/info` is about the space of its resource (Q36).

    `limitBytes` is null without a limit, and `manageUrl` is the operator's page.
    """
    manage = "https://node.example/console/"
    async with meet(hosting=Hosting(default_quota_bytes=0, manage_url=manage)) as people:
        session = await people.sign_in(grants={**GRANTS, f"{space()}/kv": ["tinycloud.kv/put"]})
        token = people.token(SESSION, {f"{space()}/kv/a": ["tinycloud.kv/put"]}, session)
        assert (await people.send("/invoke", token, b"12345")).status == 200
        other = await create(people, "notes", session)
        assert other.status == 200
        reply = await people.invoke(SESSION, f"{space()}/space{path}", INFO, session)
        found = json.loads(reply.text)
        assert found["id"] == space()
        assert found["space"] == {"usedBytes": 5, "limitBytes": None}
        assert found["manageUrl"] == manage
        assert "limitBytes" not in found
        found = json.loads((await info(people, "notes", session)).text)
        assert found["space"] == {"usedBytes": 0, "limitBytes": None}


async def test_the_usage_is_read_alone(people) -> None:
    """Beside another capability, `space/info` without a target has no effect (Q36)."""
    session = await people.sign_in(grants=GRANTS)
    token = people.token(SESSION, {f"{space()}/kv/a": [GET], f"{space()}/space": [INFO]}, session)
    assert (await people.send("/invoke", token)).status == 404


async def test_without_a_page_for_owners(people) -> None:
    """Without the setting there is no `manageUrl`; without a right, no usage (Q36)."""
    session = await people.sign_in(grants=GRANTS)
    resource = f"{space()}/space"
    reply = await people.invoke(SESSION, resource, INFO, session)
    assert "manageUrl" not in json.loads(reply.text)
    bare = await people.sign_in(BOB, SECOND)
    refused = await people.invoke(SECOND, resource, INFO, bare)
    assert refused.status == 401
    assert "usedBytes" not in refused.text


async def test_making_is_on_record(people) -> None:
    """The audit records who created which space, and by which authority."""
    session = await people.sign_in(grants=GRANTS)
    assert (await create(people, "notes", session)).status == 200
    records = await audit_records(people.node.services.store)
    (record,) = [one for one in records if one.action == "space.created"]
    assert SESSION.did == record.actor
    assert record.subject == space(name="notes")
    assert len(record.authority) == 1


async def test_a_space_is_made_once(people) -> None:
    """Creating an existing space is 409, also for all but one of concurrent requests."""
    session = await people.sign_in(grants=GRANTS)
    replies = await asyncio.gather(*(create(people, "notes", session) for _ in range(6)))
    assert [200] + [409] * 5 == sorted(reply.status for reply in replies)
    assert (await create(people, "notes", session)).said == (409, "Space already exists")
    assert (await create(people, "default", session)).said == (409, "Space already exists")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/b", (400, "Invalid space name")),
        ("a:b", (400, "Invalid space name")),
        ("a:", (400, "Invalid space name")),
        ("a%20b", (403, "Space cannot be hosted here")),
        ("a.b", (403, "Space cannot be hosted here")),
        ("x" * 65, (403, "Space cannot be hosted here")),
    ],
)
async def test_names(people, name: str, said: tuple[int, str]) -> None:
    """A space's name must be one part of an id that the node hosts automatically."""
    session = await people.sign_in(grants=GRANTS)
    assert (await create(people, name, session)).said == said


async def test_bounds_hold(meet) -> None:
    """Creating a space is refused beyond the limit of spaces per owner."""
    async with meet(hosting=Hosting(spaces_per_owner=2)) as people:
        session = await people.sign_in(grants=GRANTS)
        assert [(await create(people, name, session)).status for name in "abc"] == [200, 403, 403]


async def test_only_where_the_node_hosts_by_itself(meet) -> None:
    """At a node that requires a host grant, the ability to create spaces is not enough."""
    async with meet(hosting=Hosting(mode="explicit")) as people:
        session = await people.sign_in(
            grants={**GRANTS, f"{space()}/space": [HOST, LIST, INFO, CREATE]}
        )
        assert (await create(people, "notes", session)).said == (403, "Space cannot be hosted here")
        assert (await info(people, "notes", session)).said == (404, "Space not found")
        assert json.loads((await info(people, "default", session)).text)["id"] == space()


@pytest.mark.parametrize(
    "hosting", [Hosting(mode="permit"), Hosting(mode="permit", listed=(BOB.did,))]
)
async def test_not_where_the_owner_has_no_spaces(meet, hosting: Hosting) -> None:
    """An owner without a hosted space cannot create one through the space service."""
    async with meet(hosting=hosting) as people:
        session = await people.sign_in(
            grants={**GRANTS, f"{space()}/space": [HOST, LIST, INFO, CREATE]}
        )
        assert (await create(people, "notes", session)).said == (404, "Space not found")
        assert (await info(people, "default", session)).said == (404, "Space not found")


@pytest.mark.parametrize(
    "target",
    ["default", space(), space().lower(), quote(space(), safe=""), quote(space(), safe=":")],
    ids=["name", "id", "lower case", "encoded", "as it is"],
)
async def test_targets(people, target: str) -> None:
    """A space is named by its id, plain or percent-encoded once, or by its name (J13)."""
    session = await people.sign_in(grants=GRANTS)
    assert json.loads((await info(people, target, session)).text)["id"] == space()


async def test_what_others_have_is_not_reported(people) -> None:
    """A request for another owner's space gets the answer for a missing space."""
    session = await people.sign_in(grants=GRANTS)
    await people.sign_in(BOB, SECOND)
    for target in (
        "public",
        space(name="public"),
        space(BOB),
        "tinycloud:key",
        "a/b",
        "tinycloud:",
    ):
        assert (await info(people, target, session)).said in ((404, "Space not found"),), target


async def test_without_the_right_nothing_is_reported(people) -> None:
    """Without the ability every request gets the same 401, whether or not the space exists."""
    session = await people.sign_in(grants={f"{space()}/kv": [GET]})
    for ability, path in ((LIST, ""), (INFO, "/default"), (INFO, "/none"), (CREATE, "/notes")):
        resource = f"{space()}/space{path}"
        reported = (await people.invoke(SESSION, resource, ability, session)).said
        assert reported == (401, f"Unauthorized Action: {resource} / {ability}")
        assert (await people.invoke(MALLORY, resource, ability)).said == (
            401,
            "Cannot find parent delegation",
        )


async def test_a_friend_sees_it_as_delegated(people) -> None:
    """A delegate of another wallet sees the space's type as "delegated"."""
    session = await people.sign_in(grants=GRANTS)
    share = await people.grant(SESSION, BOB.did, {f"{space()}/space": [INFO]}, session)
    taken = await people.register(
        people.wallet_token(
            BOB, SECOND, {f"{space()}/space": [INFO]}, parents=[share], lifetime_s=60
        )
    )
    assert (
        json.loads((await info(people, "default", taken, key=SECOND)).text)["type"] == "delegated"
    )


async def test_a_key_owner_makes_its_own(people) -> None:
    """A key with one hosted space creates more under its own did:key, without a proof."""
    home = space(CAROL)
    assert (await people.invoke(CAROL, f"{home}/space/notes", CREATE)).said == (
        404,
        "Space not found",
    )
    await people.grant(CAROL, CAROL.did, {f"{home}/kv": [GET]})
    reply = await people.invoke(CAROL, f"{home}/space/notes", CREATE)
    assert reply.status == 200
    assert json.loads(reply.text)["id"] == space(CAROL, "notes")


async def test_a_token_makes_once(people) -> None:
    """A token that created a space is used up (I20)."""
    token = people.token(
        SESSION, {f"{space()}/space/notes": [CREATE]}, await people.sign_in(grants=GRANTS)
    )
    assert [(await people.send("/invoke", token)).status for _ in range(2)] == [200, 409]
    assert (await people.send("/invoke", token)).text == "duplicate invocation"


async def test_a_revoked_session_makes_nothing(people) -> None:
    """After the acknowledgement of a revocation the session creates no space."""
    session = await people.sign_in(grants=GRANTS)
    await people.revoke(session, ALICE)
    assert (await create(people, "notes", session)).status == 401


async def test_long_lists_say_so(people) -> None:
    """A space list that was truncated is marked."""
    session = await people.sign_in(grants=GRANTS)
    await create(people, "notes", session)
    owner = parse_space_id(space()).owner
    for limit in (1, 2):
        header = people.token(SESSION, {f"{space()}/space/": [LIST]}, session)
        invocation = admit_token(header, now=people.now, max_lifetime_s=300)
        listed = await list_spaces(people.node.services, invocation, owner, limit=limit)
        assert len(listed.shown) == limit
        assert listed.truncated is (limit == 1)


async def test_a_space_resource_with_a_query_asks_nothing(people) -> None:
    """`space/info` on a resource with a query or fragment is authorised without effect."""
    session = await people.sign_in(grants=GRANTS)
    for path in ("/space?x=1", "/space/default?x=1", "/space/default#x"):
        granted = (
            await people.sign_in(grants={f"{space()}{path}": [INFO]}) if "#" in path else session
        )
        assert (await people.invoke(SESSION, f"{space()}{path}", INFO, granted)).said == (200, "")
