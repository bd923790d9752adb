"""Tests of what requests may decode of stored delegations (D34), at the largest sizes.

A client is charged one token for each 64 KiB, so that what it was charged tells what was decoded.
"""

import json
from collections import Counter
from itertools import pairwise

import pytest
from audit_records import audit_records
from delegation_bench import (
    ALICE,
    CAROL,
    GET,
    MALLORY,
    PUT,
    READ,
    REVOKE,
    SECOND,
    SESSION,
    Delegating,
    everything,
    space,
)
from delegation_cache import clear_delegation_cache
from wire_replay import token_id

from capabilities.chain import MAX_COMPARISONS
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from spaces.grants.decoding import MAX_DECODED_BYTES, UNPACED_BYTES

pytestmark = pytest.mark.asyncio

MOST_UNITS = MAX_DECODED_BYTES // UNPACED_BYTES
PADDING: list[Json] = [{"padding": "x" * 280_000}]
LARGE_UNITS = 5
"""What one delegation with the padding counts for."""
MANY = 15
"""How many of them are more than one request may decode."""
VALUE = f"{space()}/kv/a"
METADATA = "tinycloud.kv/metadata"
OWN = f"{space(MALLORY)}/capabilities/all"


def charged(people: Delegating) -> float:
    """Return what this machine was charged since the last call."""
    rates = people.node.services.decoding_rates
    spent = rates._spent.spent("127.0.0.1", per_s=0, now=people.now)
    rates._spent.pop("127.0.0.1", None)
    return spent


async def pad_account(people: Delegating, count: int = MANY) -> list[str]:
    """Register large delegations of Mallory's."""
    return [
        await people.grant(MALLORY, CAROL.did, {f"{space(MALLORY)}/kv": [GET]}, facts=PADDING)
        for _ in range(count)
    ]


async def test_D34_pages_of_a_query_end_by_bytes(people: Delegating) -> None:
    """Each page decodes no more than a request may, and the pages together have everything."""
    padded = await pad_account(people)
    charged(people)
    found: list[str] = []
    asked: dict[str, Json] = {}
    while True:
        page = await people.query(MALLORY, owner=MALLORY, **asked)
        assert LARGE_UNITS < charged(people) <= MOST_UNITS
        found += [item["cid"] for item in page["items"]]
        if page.get("nextCursor") is None:
            break
        asked = {"cursor": page["nextCursor"]}
    assert sorted(map(token_id, padded)) == sorted(found) and asked


async def test_D34_a_list_that_matches_nothing_ends_by_bytes(people: Delegating) -> None:
    """A list of capabilities is marked as truncated."""
    await pad_account(people)
    await people.sign_in(ALICE)
    charged(people)
    wanted: list[Json] = [
        {"capabilitiesReadParams": {"type": "list", "filters": {"path": "no/such/path"}}}
    ]
    reply = await people.invoke(MALLORY, OWN, READ, facts=wanted)
    assert (reply.status, json.loads(reply.text)) == (200, {})
    assert MOST_UNITS - LARGE_UNITS <= charged(people) <= MOST_UNITS


async def test_D34_a_chain_has_so_many_bytes(people: Delegating) -> None:
    """A call that depends on the contents of a whole chain is refused if the chain is too large.
    The owner can still revoke it."""
    keys = [Ed25519Signer(bytes([fill]) * 32) for fill in range(60, 61 + MANY)]
    right = {f"{space(MALLORY)}/kv": [METADATA]}
    first = await people.grant(MALLORY, keys[0].did, right, facts=PADDING)
    above = first
    for signer, to in pairwise(keys):
        await people.grant(signer, signer.did, {f"{space(signer)}/kv": [GET]})  # hosts a space
        above = await people.grant(signer, to.did, right, above, facts=PADDING)
    value = f"{space(MALLORY)}/kv/a"
    charged(people)
    asked = await people.invoke(keys[-1], value, METADATA, above)
    assert asked.status == 404, asked.text  # authorised by what was stored with the last one
    assert charged(people) == LARGE_UNITS
    token = people.token(keys[-1], {value: [METADATA]}, above)
    refused = await people.send("/invoke", token, None, **{"x-sealspace-version": "all"})
    assert refused.status == 400 and "more than 4 MiB of stored delegations" in refused.text
    assert charged(people) <= MOST_UNITS
    await people.revoke(first, by=MALLORY)
    assert (await people.invoke(keys[-1], value, METADATA, above)).status == 401


async def test_D34_one_session_in_force_is_enough(people: Delegating) -> None:
    """Of the sign-ins of one key, those that are revoked are not decoded, and of the others one."""
    long = {f"{space()}/kv/{'x' * 900}{number}": [GET] for number in range(100)}
    plain = await people.sign_in(grants={VALUE: [METADATA, PUT]})
    put = people.token(SESSION, {VALUE: [PUT]}, plain)
    assert (await people.send("/invoke", put, b"1")).status == 200
    sessions = [await people.sign_in(grants={**everything(), **long}) for _ in range(6)]

    async def units_of_versions(status: int) -> float:
        clear_delegation_cache(people.node.services)
        charged(people)
        token = people.token(SESSION, {VALUE: [METADATA]}, plain)
        read = await people.send("/invoke", token, None, **{"x-sealspace-version": "all"})
        assert read.status == status, read.text  # for the owner in person alone (M58)
        return charged(people)

    units_of_one = len(sessions[0]) // UNPACED_BYTES
    assert units_of_one > 2
    assert await units_of_versions(200) == units_of_one
    for session in sessions:
        await people.revoke(session, by=ALICE)
    assert await units_of_versions(403) == 0


async def test_D12_who_hosts_nothing_stores_smaller_delegations(people: Delegating) -> None:
    """A sign-in for 64 values is accepted from everybody; nobody needs more without a space."""
    session = await people.sign_in()
    mine = {f"{space()}/kv": [GET]}
    padding: list[Json] = [{"padding": "x" * 60_000}]
    await people.grant(SESSION, CAROL.did, mine, session, facts=padding)
    token = people.token(SESSION, mine, session, audience=CAROL.did, facts=padding * 2)
    refused = await people.send("/delegate", token)
    assert refused.status == 400, refused.text
    assert f"at most {96 * 1024} bytes; this one has {len(token)}" in refused.text
    await people.grant(SESSION, SESSION.did, {f"{space(SESSION)}/kv": [GET]})
    await people.grant(SESSION, CAROL.did, mine, session, facts=padding * 2)


async def test_D34_a_client_that_decodes_much_waits(people: Delegating) -> None:
    """A client for which much was decoded is refused what would decode more, and nothing else."""
    await pad_account(people, 1)
    small = people.token(MALLORY, {f"{space(MALLORY)}/kv/a": [GET]})
    people.node.services.decoding_rates.charge("127.0.0.1", now=people.now, count=3000)
    refused = await people.asked(MALLORY, owner=MALLORY)
    assert refused.status == 429 and refused.headers["retry-after"], refused.text
    assert "cite fewer or smaller delegations" in refused.text
    assert (await people.send("/invoke", small)).status == 404
    people.clock.advance(1)
    assert (await people.asked(MALLORY, owner=MALLORY)).status == 200


async def test_D34_pages_of_a_query_end_by_comparisons(people: Delegating) -> None:
    """A page compares no more than one token may, and the pages together have everything."""
    rows = {f"{space(MALLORY)}/kv/{number}": [GET] for number in range(400)}
    mine = await people.grant(MALLORY, SESSION.did, rows)
    # It supports nothing, so that all paths are searched for its owner in vain.
    cited = await people.grant(CAROL, SESSION.did, {f"{space(CAROL)}/kv": [GET]})
    passed_on = [await people.grant(SESSION, CAROL.did, rows, mine, cited) for _ in range(4)]
    compared_by_one = len(rows) * (len(rows) + 1)
    assert MAX_COMPARISONS < 2 * compared_by_one
    found: list[str] = []
    pages: list[int] = []
    asked: dict[str, Json] = {}
    while not pages or asked:
        page = await people.query(MALLORY, owner=MALLORY, derived=True, **asked)
        found += [item["cid"] for item in page["items"]]
        pages.append(len(page["items"]))
        cursor = page.get("nextCursor")
        asked = {} if cursor is None else {"cursor": cursor}
    assert sorted(found) == sorted(map(token_id, [mine, *passed_on]))
    assert max(pages) <= 2 and len(pages) >= len(passed_on)


async def test_RC33_the_readers_of_a_batch_take_one_search(people: Delegating) -> None:
    """A batch of copies makes as many comparisons as one token may. For the values that are left
    over, the key that called is recorded."""
    folder = f"{space(MALLORY, 'secrets')}/kv/vault/secrets/shared"
    await people.grant(MALLORY, MALLORY.did, {f"{space(MALLORY, 'secrets')}/kv": [GET]})
    # Each of these rows covers all of the values.
    rows = {folder + "/s" * count: [GET] for count in range(1, 170)}
    values = [f"{folder}{'/s' * 169}/{number}" for number in range(12)]
    for value in values:
        put = people.token(MALLORY, {value: [PUT]})
        assert (await people.send("/invoke", put, b"x" * 70_000)).status == 200
    above = await people.grant(MALLORY, CAROL.did, rows)
    for signer, recipient in pairwise((CAROL, SECOND, CAROL, SESSION)):
        above = await people.grant(signer, recipient.did, rows, above)
    read = people.token(SESSION, {value: [GET] for value in values}, above)
    assert (await people.send("/invoke", read)).status == 200
    records = await audit_records(people.node.services.store)
    details = [json.loads(one.detail) for one in records if one.action == "copy.fetched"]
    readers = Counter(detail["reader"] for detail in details)
    compared_for_one = 3 * len(rows) ** 2
    assert readers[CAROL.did] == MAX_COMPARISONS // compared_for_one
    assert readers[SESSION.did] == len(values) - readers[CAROL.did]


async def test_D34_a_revocation_is_not_refused_for_its_size(people: Delegating) -> None:
    """Large targets are revoked, several in one token too, also if nothing more may be decoded for
    the client's address."""
    padded = await pad_account(people)
    people.node.services.decoding_rates.charge("127.0.0.1", now=people.now, count=100_000)
    assert (await people.asked(MALLORY, owner=MALLORY)).status == 429
    targets = {f"urn:cid:{token_id(token)}": [REVOKE] for token in padded}
    reply = await people.send("/revoke", people.token(MALLORY, targets))
    assert reply.status == 200, reply.text
    charged(people)  # as if the minute were over
    for token in (padded[0], padded[-1]):
        read = await people.invoke(CAROL, f"{space(MALLORY)}/kv/a", GET, token)
        assert read.status == 401 and "revoked" in read.text.lower(), read.text
