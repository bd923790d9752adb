"""The question which members of a removed admin stay (TM15), and what the member opened (TM8)."""

import json

import pytest
from owner_desk import Ran
from team_desk import Team, read_with, token_for


@pytest.fixture
async def five(team: Team) -> Team:
    """Bob, an admin, has admitted the admin Eve, the writer Carol and the reader Dave."""
    await team.joined("bob", "admin")
    await team.joined("eve", "admin", by="bob")
    await team.joined("carol", "writer", by="bob")
    await team.joined("dave", "reader", by="eve")
    return team


async def removed(team: Team, *more: str, typed: str | None = None) -> Ran:
    return await team.run("alice", "team", "remove", "shop", "bob", *more, typed=typed)


async def test_TM15_an_admin_needs_a_yes(five: Team) -> None:
    """TM15: members are listed; writers and readers stay by default, an admin after a yes."""
    ran = await removed(five, typed="\ny\n")
    assert ran.status == 0, ran
    assert f"bob ({five.dids['bob']}) had admitted:" in ran.err
    assert f"carol ({five.dids['carol']}), writer, since 20" in ran.err
    assert "may be a second key of the same person" in ran.err
    assert set(await five.roles("alice")) == {"alice", "eve", "carol", "dave"}


async def test_TM15_a_second_key_is_removed(five: Team) -> None:
    """TM15: without a yes an admin goes too; members of that admin stay, unless they are named."""
    ran = await removed(five, typed="mallory\ncarol\n\n")
    assert ran.status == 0 and "mallory is not one of these" in ran.err, ran
    assert set(await five.roles("alice")) == {"alice", "dave"}
    assert "not a member" in await five.reads("eve")
    assert await five.reads("dave") == "open sesame"


async def test_TM15_without_a_terminal(five: Team) -> None:
    """TM15: nobody is removed if an admin would have to be asked about; two options answer it."""
    refused = await removed(five)
    assert refused.status == 2 and refused.next.endswith("--admitted keep or --admitted remove")
    assert len(await five.roles("alice")) == 5
    assert (await removed(five, "--admitted", "keep")).status == 0
    assert set(await five.roles("alice")) == {"alice", "eve", "carol", "dave"}


async def test_TM15_all_are_removed(five: Team) -> None:
    """TM15: --admitted remove ends all that depends on the admin, also after a change of role."""
    changed = await five.run(
        "alice", "team", "role", "shop", "bob", "--role", "reader", "--admitted", "remove"
    )
    assert changed.status == 0, changed
    assert await five.roles("alice") == {"alice": "admin", "bob": "reader"}


async def test_admitted_is_for_teams_with_members(team: Team) -> None:
    """A team of copies has no admins, so the option is refused."""
    await team.log_in("bob")
    await team.must("alice", "team", "add", "ops", "bob")
    ran = await team.run("alice", "team", "remove", "ops", "bob", "--admitted", "keep")
    assert ran.status == 2 and "not a team with members" in ran.happened


# --- what the removed member opened ---------------------------------------------------------------


async def test_TM8_what_a_removed_member_opened(team: Team) -> None:
    """TM8, M62: the command names the secrets that the member opened or stored, and none that
    others did."""
    await team.joined("bob", "admin")
    await team.joined("carol", "reader", by="bob")
    for name in ("SECOND", "THIRD", "FOURTH"):
        await team.must("alice", "secret", "put", name, given=name)
    assert await team.reads("bob") == "open sesame"
    assert await team.reads("bob", "SECOND") == "SECOND"
    assert await team.reads("carol", "THIRD") == "THIRD"
    assert await team.reads("alice", "FOURTH") == "FOURTH"
    await team.must("alice", "secret", "put", "SECOND", given="replaced since")
    for person in ("bob", "alice"):  # the value of bob becomes a former one
        await team.must(person, "secret", "put", "FOURTH", given=f"by {person}")
    ran = await team.must("alice", "team", "remove", "shop", "bob", "--admitted", "keep", "--json")
    assert json.loads(ran.out)["opened"] == ["API_KEY", "SECOND"]
    assert "opened by this member, now or in a former value: API_KEY, SECOND\n" in ran.err
    assert json.loads(ran.out)["stored"] == ["FOURTH"]
    assert "stored by this member, now or in a former value: FOURTH\n" in ran.err


async def test_TM6_what_a_removed_admins_token_opened(team: Team) -> None:
    """TM6: reads with a machine token of the removed admin are named, too."""
    await team.joined("bob", "admin")
    line = await token_for(team, "bob")
    assert await read_with(team, line) == "open sesame"
    ran = await team.must("alice", "team", "remove", "shop", "bob", "--json")
    assert json.loads(ran.out)["opened"] == ["API_KEY"]
    assert "was revoked" in await read_with(team, line)


async def test_a_removed_member_who_opened_nothing(team: Team) -> None:
    """Without receipts the command says so. Of what the member stored, nothing was stored."""
    await team.joined("bob", "writer")
    ran = await team.must("alice", "team", "remove", "shop", "bob", "--json")
    assert json.loads(ran.out)["opened"] == json.loads(ran.out)["stored"] == []
    assert "stored by" not in ran.err
    assert "no secret that a receipt names" in ran.err


async def test_a_value_that_is_not_kept(team: Team) -> None:
    """A read of a secret that was deleted with all versions is counted, not named."""
    await team.joined("bob", "reader")
    assert await team.reads("bob") == "open sesame"
    await team.must("alice", "secret", "delete", "API_KEY", "--purge", "--yes")
    ran = await team.must("alice", "team", "remove", "shop", "bob")
    assert "reads of values that are not kept any more: 1\n" in ran.err
