"""Sign-ins as newer clients of the protocol send them (wire 9.3)."""

import json

import pytest
from delegation_bench import ALICE, GET, READ, SESSION, Delegating, space

MONTH_S = 30 * 24 * 3600
PUT = "tinycloud.kv/put"


@pytest.mark.parametrize(("path", "status"), [("", 200), ("/", 401)])
async def test_a_sign_in_for_thirty_days(people: Delegating, path: str, status: int) -> None:
    """A sign-in for 30 days is accepted and ends then.

    The login of a device asks for `capabilities/read` on an empty path beside its values. It is
    accepted with and without a slash; with one it covers the empty path alone.
    """
    grants = {f"{space()}/kv": [GET, PUT], f"{space()}/capabilities{path}": [READ]}
    session = await people.sign_in(ALICE, SESSION, grants, lifetime_s=MONTH_S)
    token = people.token(SESSION, {f"{space()}/kv/a": [PUT]}, session)
    assert (await people.send("/invoke", token, b"1")).status == 200
    people.clock.advance(MONTH_S - 10)
    assert (await people.invoke(SESSION, f"{space()}/kv/a", GET, session)).text == "1"
    everything = await people.invoke(SESSION, f"{space()}/capabilities/all", READ, session)
    assert everything.status == status
    assert status == 401 or len(json.loads(everything.text)) == 1
    people.clock.advance(11)
    assert (await people.invoke(SESSION, f"{space()}/kv/a", GET, session)).status == 401
