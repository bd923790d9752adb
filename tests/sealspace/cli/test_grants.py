"""Tests of grants between two persons on the command line, with a real node."""

import json
import re
import shlex
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from backend_desk import Desk
from embedded_node import embedded_node
from relay import relay_before
from trust_settings import trusting_config

from capabilities.cids import Digest, cid_text
from capabilities.strict_base64 import encode_url
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.session import load_session, read_grant
from sealspace.wire.portable import encode_portable

UNKNOWN = cid_text(Digest(bytes(32)))


async def second_person(desk: Desk) -> tuple[Path, str]:
    """Log in a second person with their own folder at the same node; return the folder and their
    DID."""
    other = desk.folder / "other"
    ran = await desk.run("login", desk.node, "--new", "--home", str(other), home=False)
    assert ran.status == 0, ran
    return other, json.loads((other / "profile.json").read_text())["owner"]


async def put(desk: Desk, key: str, value: str) -> None:
    async with Client(desk.node, session=load_session(desk.home / "session.json")) as client:
        await client.kv().put(key, value)


async def read(desk: Desk, home: Path, space: str, key: str) -> str:
    async with Client(desk.node, session=load_session(home / "session.json")) as client:
        return (await client.kv(space).get(key)).body.decode()


async def test_keys_of_a_grant_are_listed(desk: Desk) -> None:
    """Whoever may list a folder alone gets its keys by its name and by a beginning of a key in it,
    and is refused what is beside it."""
    await desk.log_in()
    for key in ("todo", "todo/1", "todo/12", "todo/2", "todos", "to"):
        await put(desk, key, "buy milk")
    other, did = await second_person(desk)
    file = desk.folder / "grant.json"
    wanted = ("--space", "default", "--path", "todo", "--can", "list", "--out", str(file))
    assert (await desk.run("grant", "create", did, *wanted)).status == 0
    home = ("--home", str(other))
    ran = await desk.run("grant", "accept", str(file), "--json", *home, home=False)
    (space,) = json.loads(ran.out)["spaces"]
    at_other = ("--space", space, "--json", *home)
    for prefix, expected in (
        ("todo", ["todo", "todo/1", "todo/12", "todo/2"]),
        ("todo/", ["todo/1", "todo/12", "todo/2"]),
        ("todo/1", ["todo/1", "todo/12"]),
        ("todo/x", []),
    ):
        ran = await desk.run("kv", "list", prefix, *at_other, home=False)
        assert (ran.status, json.loads(ran.out)) == (0, expected), ran
    for beside in ((), ("to",), ("todos",), ("tod",)):
        refused = await desk.run("kv", "list", *beside, *at_other, home=False)
        assert (refused.status, refused.out) == (22, ""), refused
    own = json.loads((await desk.run("kv", "list", "todo", "--json")).out)
    assert own == ["todo", "todo/1", "todo/12", "todo/2", "todos"]


async def test_ST16_a_grant_that_is_shown_as_revoked_is_revoked_again(desk: Desk) -> None:
    """The command revokes a grant again that is shown as revoked, because of failovers (ST16)."""
    sent: list[str] = []
    async with relay_before(desk.node) as relay:
        relay.twist = lambda answer: sent.append(answer.path)
        await desk.run("login", relay.url, "--new")
        wanted = (
            "--space",
            "default",
            "--path",
            "todo",
            "--can",
            "get",
            "--out",
            str(desk.folder / "grant.json"),
        )
        made = await desk.run("grant", "create", "did:example:1", *wanted, "--json")
        assert made.status == 0, made
        cid = json.loads(made.out)["cid"]
        for expected in ("revoked", "already revoked"):
            ended = await desk.run("grant", "revoke", cid)
            assert (ended.status, ended.err) == (0, f"{expected}: {cid}\n"), ended
    assert 2 == sent.count("/revoke")


async def test_from_one_person_to_another(desk: Desk) -> None:
    """A grant is made as a file, shown offline, accepted, used, listed on both sides and revoked.
    Revoking twice is reported."""
    await desk.log_in()
    await put(desk, "todo/1", "buy milk")
    await put(desk, "other", "not this")
    other, did = await second_person(desk)
    file = desk.folder / "grant.json"
    wanted = ("--space", "default", "--path", "todo", "--can", "get,list")
    made = await desk.run("grant", "create", did, *wanted, "--out", str(file), "--json")
    assert made.status == 0, made
    cid = json.loads(made.out)["cid"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = await desk.run("grant", "show", str(file), home=False)
    assert shown.status == 0, shown
    assert "todo and what is below it in the space default" in shown.out
    said = json.loads((await desk.run("grant", "show", str(file), "--json", home=False)).out)
    assert said["cid"] == cid
    assert said["to"] == did
    assert said["state"] == "active"
    accepted = await desk.run(
        "grant", "accept", str(file), "--json", "--home", str(other), home=False
    )
    assert accepted.status == 0, accepted
    (space,) = json.loads(accepted.out)["spaces"]
    assert await read(desk, other, space, "todo/1") == "buy milk"
    (row,) = json.loads((await desk.run("grant", "list", "--json")).out)
    assert row["cid"] == cid
    assert row["to"] == did
    assert row["state"] == "active"
    assert row["madeHere"] is True
    assert row["expiresAt"].endswith("Z")
    listed = await desk.run(
        "grant", "list", "--received", "--json", "--home", str(other), home=False
    )
    assert [one["cid"] for one in json.loads(listed.out)] == [cid]
    # A new login takes it up again.
    assert (await desk.run("login", "--home", str(other), home=False)).status == 0
    assert await read(desk, other, space, "todo/1") == "buy milk"
    kept = await desk.run("grant", "revoke", cid, typed="n\n")
    assert kept.status == 1, kept
    assert "revoke" in kept.err
    ended = await desk.run("grant", "revoke", str(file))
    assert (ended.status, ended.err) == (0, f"revoked: {cid}\n"), ended
    again = await desk.run("grant", "revoke", cid)
    assert (again.status, again.err) == (0, f"already revoked: {cid}\n")
    assert json.loads((await desk.run("grant", "list", "--json")).out)[0]["state"] == "revoked"
    assert (await desk.run("grant", "show", cid)).status == 1
    left_out = await desk.run("login", "--home", str(other), home=False)
    assert left_out.status == 0, left_out
    assert "no longer in force" in left_out.err


async def test_a_grant_to_follow_changes(desk: Desk) -> None:
    """`--can get,sync` grants what a local copy needs, for values and not for secrets."""
    await desk.log_in()
    await put(desk, "todo/1", "buy milk")
    other, did = await second_person(desk)
    file = desk.folder / "grant.json"
    wanted = ("--space", "default", "--path", "todo", "--can", "get,sync")
    made = await desk.run("grant", "create", did, *wanted, "--out", str(file))
    assert made.status == 0, made
    accepted = await desk.run(
        "grant", "accept", str(file), "--json", "--home", str(other), home=False
    )
    (space,) = json.loads(accepted.out)["spaces"]
    session = load_session(other / "session.json")
    async with (
        Client(desk.node, session=session) as client,
        client.replica(desk.folder / "copy", "todo", space=space) as copy,
    ):
        assert (await copy.sync()).written == 1
        assert list(copy.list()) == ["todo/1"]
    refused = await desk.run("grant", "create", did, "--secret", "API_KEY", "--can", "sync")
    assert refused.status == 2 and "'sync' is not an action" in refused.happened


async def test_a_grant_on_standard_output(desk: Desk) -> None:
    """Without --out only the portable form is printed. `show` by id knows the grants made here."""
    await desk.log_in()
    _, did = await second_person(desk)
    assert (await desk.run("secret", "put", "API_KEY", given="open sesame")).status == 0
    made = await desk.run("grant", "create", did, "--secret", "API_KEY", "--expires", "12h")
    assert made.status == 0, made
    cid = json.loads(made.out)["cid"]
    assert "--policy" in made.err  # the node opens nothing for a person without code
    shown = await desk.run("grant", "show", cid)
    assert shown.status == 0, shown
    assert "may      read the secret API_KEY" in shown.out
    assert "what is sealed to the network default" in shown.out
    assert (await desk.run("grant", "list", "-q")).out.startswith("active")


async def test_who_may_open_a_secret(desk: Desk) -> None:
    """The command lists all grants that name the secret or its network."""
    await desk.log_in()
    _, did = await second_person(desk)
    assert (await desk.run("secret", "put", "API_KEY", given="open sesame")).status == 0
    assert (await desk.run("secret", "put", "OTHER", given="open sesame")).status == 0
    cids = []
    for secret in ("API_KEY", "OTHER"):
        made = await desk.run(
            "grant", "create", did, "--secret", secret, "--out", str(desk.folder / secret), "--json"
        )
        cids.append(json.loads(made.out)["cid"])
    listed = await desk.run("grant", "list", "--secret", "API_KEY", "--json")
    # the second one has the network's key too
    assert {one["grant"] for one in json.loads(listed.out)} == set(cids)
    assert {one["state"] for one in json.loads(listed.out)} == {"no_code"}
    missing = await desk.run("grant", "list", "--secret", "NOTHING")
    assert missing.status == 21, missing
    kept = await desk.run("grant", "revoke", cids[0], typed="n\n")
    assert kept.status == 1, kept
    assert f"could decrypt a saved copy with it: {cids[1]}" in kept.err
    ended = await desk.run("grant", "revoke", cids[0], "--json")
    assert {one["cid"]: one["wasRevokedAlready"] for one in json.loads(ended.out)} == dict.fromkeys(
        cids, False
    )
    assert json.loads((await desk.run("grant", "list", "--secret", "API_KEY", "--json")).out) == []
    for secret in ("API_KEY", "OTHER"):
        out = str(desk.folder / f"{secret}-again")
        made = await desk.run("grant", "create", did, "--secret", secret, "--out", out, "--json")
        cids.append(json.loads(made.out)["cid"])
    only = await desk.run("grant", "revoke", cids[2], "--only", "--json")
    assert [one["cid"] for one in json.loads(only.out)] == [cids[2]]
    left = json.loads((await desk.run("grant", "list", "--secret", "API_KEY", "--json")).out)
    assert [one["grant"] for one in left] == [cids[3]]


async def test_a_folder_of_secrets_says_what_is_in_it(desk: Desk) -> None:
    """A grant to all secrets, or to a scope, says that it includes the generated secrets."""
    await desk.log_in()
    _, did = await second_person(desk)
    for path, words in (
        ("vault/secrets", "read every secret, those that begin with PROTECTED_ too"),
        (
            "vault/secrets/scoped/mail/",
            "read every secret below scoped/mail/, those that begin with PROTECTED_ too",
        ),
    ):
        assert (
            await desk.run("secret", "put", "API_KEY", "--yes", given="open sesame")
        ).status == 0
        made = await desk.run(
            "grant", "create", did, "--space", "secrets", "--path", path, "--can", "get"
        )
        assert made.status == 0, made
        assert words in made.err
    value = {"app_id": "a", "name": "A", "defaults": False, "permissions": [
        {"service": "tinycloud.vault", "space": "secrets", "path": path, "actions": ["read"],
         "skipPrefix": True}
        for path in ("secrets", "secrets/scoped/mail")]}  # fmt: skip
    file = desk.folder / "manifest.json"
    file.write_text(json.dumps(value))
    said = (await desk.run("manifest", "explain", str(file), home=False)).out
    assert "read every secret, those that begin with PROTECTED_ too" in said
    assert "read every secret below scoped/mail, those that begin with PROTECTED_ too" in said


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("grant", "create", "did:key:z6Mk"), 2, "--secret NAME"),
        (
            ("grant", "create", "DID", "--secret", "A", "--space", "default"),
            2,
            "specify what to grant: --secret NAME",
        ),
        (("grant", "create", "nobody", "--space", "default"), 2, "neither a DID nor"),
        (("grant", "create", "DID", "--space", "default", "--can", "get,fly"), 2, "'fly'"),
        (("grant", "create", "DID", "--secret", "lower"), 2, "lower"),
        (("grant", "create", "DID", "--secret", "A", "--scope", "default"), 2, "reserved"),
        (("grant", "create", "DID", "--space", "default", "--expires", "soon"), 2, "soon"),
        (("grant", "create", "DID", "--path", "x", "--secret", "A"), 2, "require --space"),
        (("grant", "show", "nothing"), 2, "neither a file nor the id"),
        (("grant", "revoke", "nothing", "--yes"), 2, "neither a file nor the id"),
        (("grant", "show", UNKNOWN), 21, "neither made nor received"),
        (("grant", "revoke", UNKNOWN, "--yes"), 21, "neither made nor received"),
    ],
)
async def test_what_is_no_grant(
    desk: Desk, arguments: tuple[str, ...], status: int, said: str
) -> None:
    """An invalid grant option gives an error that names it, and nothing is granted."""
    await desk.log_in()
    _, did = await second_person(desk)
    ran = await desk.run(*(did if one == "DID" else one for one in arguments))
    assert ran.status == status, ran
    assert ran.out == ""
    assert said in ran.err
    assert ran.next
    assert json.loads((await desk.run("grant", "list", "--json")).out) == []


async def test_grants_that_are_not_what_they_say(desk: Desk) -> None:
    """A grant is refused and not stored if it is for another DID, altered or forged."""
    await desk.log_in()
    other, did = await second_person(desk)
    file = desk.folder / "grant.json"
    assert (
        await desk.run("grant", "create", did, "--space", "default", "--out", str(file))
    ).status == 0
    session = (desk.home / "session.json").read_bytes()
    ran = await desk.run("grant", "accept", str(file))
    assert ran.status == 22, ran
    assert f"this is your own grant to {did}" in ran.err
    whole = json.loads(file.read_text())
    token = whole["delegationHeader"]["Authorization"]
    wider = [whole["resources"][0] | {"path": "all"}]
    bad = {
        "does not match": (
            whole | {"delegateDID": "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"}
        ),
        "another id": whole | {"cid": UNKNOWN},
        "resources[0]": whole | {"resources": wider},
        "cannot be read": whole | {"delegationHeader": {"Authorization": token[:-8] + "AAAAAAA="}},
        "does not contain a grant": {"a": 1},
        "surprise": whole | {"surprise": "value"},
    }
    for said, value in bad.items():
        path = desk.folder / "bad.json"
        path.write_text(json.dumps(value))
        for verb in ("show", "accept"):
            ran = await desk.run("grant", verb, str(path), "--home", str(other), home=False)
            assert ran.status == 2, (said, ran)
            assert said in ran.err, (said, ran)
            assert token not in ran.err + ran.out
    taken = await desk.run("grant", "create", did, "--space", "default", "--out", str(file))
    assert taken.status == 2
    assert "already exists" in taken.err
    assert (desk.home / "session.json").read_bytes() == session
    assert not (other / "received").exists()


async def test_commands_that_a_grant_suggests_are_safe_to_paste(desk: Desk) -> None:
    """Suggested commands quote the granter's paths, so that a shell reads each as one plain
    word."""
    await desk.log_in()
    other, did = await second_person(desk)
    paths = ("$(id)", "a;id&", "--home=elsewhere", "it's")
    async with Client(desk.node, session=load_session(desk.home / "session.json")) as client:
        space = client.kv().space.text
        wanted = [allow(f"{space}/kv/{path}", "tinycloud.kv/get") for path in paths]
        portable = await client.delegations.delegate(did, wanted)
    path = desk.folder / "grant.json"
    path.write_bytes(encode_portable(portable))
    ran = await desk.run("grant", "accept", str(path), "--home", str(other), home=False)
    assert ran.status == 0, ran
    assert re.search(r"^accepted: bafk\w+, from \S+, until \d{4}-\S+Z$", ran.err, re.MULTILINE), ran
    suggested = [
        line.removeprefix("to use it: ")
        for line in ran.err.splitlines()
        if line.startswith("to use it: ")
    ]
    words = [shlex.split(command) for command in suggested]
    assert sorted(line[-1] for line in words) == sorted(paths), ran
    assert all((line[5:-1] == ["--"]) == line[-1].startswith("-") for line in words), words


async def test_a_signature_of_somebody_else(desk: Desk) -> None:
    """A file with a grant that its delegator did not sign is refused on this machine."""
    await desk.log_in()
    _, did = await second_person(desk)
    async with Client(desk.node, session=load_session(desk.home / "session.json")) as client:
        wanted = [allow(f"{client.kv().space.text}/kv/todo", "tinycloud.kv/get")]
        portable = await client.delegations.delegate(did, wanted)
    signed, _, _ = portable.header.rpartition(".")
    forged = f"{signed}.{encode_url(bytes(64))}"
    path = desk.folder / "forged.json"
    path.write_bytes(encode_portable(replace(portable, header=forged, cid=read_grant(forged).cid)))
    ran = await desk.run("grant", "show", str(path), home=False)
    assert ran.status == 2, ran
    assert ran.out == ""
    assert "token is invalid" in ran.err


async def test_grants_of_nobody(desk: Desk) -> None:
    """An empty list prints nothing on standard output, and the next step on standard error."""
    await desk.log_in()
    ran = await desk.run("grant", "list")
    assert ran.status == 0
    assert ran.out == ""
    assert "sealspace grant create" in ran.err
    listed = json.loads((await desk.run("grant", "list", "--all", "--json")).out)
    assert listed and {one["by"] for one in listed} == {listed[0]["by"]}  # the login itself


@pytest.mark.parametrize(("mode", "status"), [("off", 0), ("delegates", 22)])
async def test_a_secret_of_somebody_else(desk: Desk, mode: str, status: int) -> None:
    """A granted secret can be read if the node requires no code. Otherwise the error says what to
    do."""
    config = trusting_config(desk.folder / mode, desk.platform, release={"attestation": mode})
    desk.node = (await desk.stack.enter_async_context(embedded_node(config))).url
    await desk.log_in()
    other, did = await second_person(desk)
    assert (
        await desk.run("secret", "put", "API_KEY", "--scope", "app", given="open sesame")
    ).status == 0
    file = str(desk.folder / "grant.json")
    made = await desk.run(
        "grant", "create", did, "--secret", "API_KEY", "--scope", "app", "--out", file
    )
    assert (made.status, "--policy" in made.err) == (0, mode != "off"), made
    accepted = await desk.run("grant", "accept", file, "--home", str(other), home=False)
    (line,) = [one for one in accepted.err.splitlines() if one.startswith("to use it: ")]
    command = line.removeprefix("to use it: sealspace ").split()
    ran = await desk.run(*command, "--home", str(other), home=False)
    assert (ran.status, ran.out) == (status, "open sesame" if mode == "off" else ""), ran
    if status:
        assert (
            ran.next.endswith("sealspace admin release set --attestation off")
            and "backend grant URL" in ran.next
        )
        assert (
            "the node refuses to open it: it belongs to another owner, and no code is approved"
            in ran.err
        )


async def test_a_mistyped_space_is_not_granted(desk: Desk) -> None:
    """A grant for a space that does not exist is refused, and no such space is created."""
    await desk.log_in()
    _, did = await second_person(desk)
    ran = await desk.run("grant", "create", did, "--space", "ntes")
    assert ran.status == 21, ran
    assert ran.out == ""
    assert ran.next == "sealspace space create ntes"
    assert (await desk.run("grant", "list", "--json")).out == "[]\n"
    there = json.loads((await desk.run("space", "list", "--json")).out)
    assert "ntes" not in [one["name"] for one in there]


async def test_what_is_not_held_is_asked_for_as_a_grant(desk: Desk) -> None:
    """If a right is missing, the next step names the commands that lead to a grant."""
    await desk.log_in()
    _, did = await second_person(desk)
    space = f"tinycloud:{did.removeprefix('did:')}:default"
    ran = await desk.run("kv", "get", "a", "--space", space)
    assert (ran.status, ran.next) == (
        22,
        f"ask {did} for a grant, then run: sealspace grant accept FILE",
    ), ran


async def test_a_grant_made_ahead_of_time(desk: Desk) -> None:
    """A secret that is not stored yet is reported in words; the JSON output is the same."""
    await desk.log_in()
    _, did = await second_person(desk)
    assert (await desk.run("secret", "put", "THERE", given="x")).status == 0
    file = str(desk.folder / "grant.json")
    wanted = ("--secret", "THERE", "--secret", "LATER")
    made = await desk.run("grant", "create", did, *wanted, "--out", file, "--json")
    assert (made.status, set(json.loads(made.out))) == (0, {"cid", "file", "expiresAt"}), made
    assert "not stored yet; the grant takes effect when they are stored: LATER\n" in made.err


async def test_where_secrets_are_shared(desk: Desk) -> None:
    """The help of each similar command names its recipients and the command that shares with a
    person."""
    for noun in (("secret",), ("grant", "create")):
        ran = await desk.run(*noun, "--help", home=False)
        said = " ".join(ran.out.split())
        assert all(
            one in said
            for one in (
                "secret share",
                "backend grant",
                "release set --attestation off",
                "node's operator",
            )
        )


@pytest.mark.parametrize("ttl", ["0m", "366d"])
async def test_durations_have_bounds(desk: Desk, ttl: str) -> None:
    """The error about a duration that is too long or too short says so."""
    ran = await desk.run("grant", "create", "did:key:z", "--secret", "A", "--expires", ttl)
    assert ran.status == 2, ran
    assert f"--expires {ttl} is not a duration from 1m to 365d" in ran.err
