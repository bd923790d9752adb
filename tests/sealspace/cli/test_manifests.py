"""The commands of `sealspace manifest`."""

import json
from pathlib import Path
from typing import Any

import pytest
from backend_desk import SECRET, Desk

from sealspace.wire.portable import decode_bundle

SOMEBODY = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
ASKED: dict[str, Any] = {"app_id": "com.example.notes", "name": "Notes", "defaults": False}


def manifest(folder: Path, **members: object) -> str:
    path = folder / "manifest.json"
    path.write_text(json.dumps(ASKED | members))
    return str(path)


async def test_check_names_a_fault(desk: Desk) -> None:
    """Each error names the member with the problem and quotes no value. A valid manifest gives no
    output."""
    ran = await desk.run(
        "manifest", "check", manifest(desk.folder, secrets={"API_KEY": True}), home=False
    )
    assert (ran.status, ran.out) == (0, ""), ran
    bad = manifest(
        desk.folder,
        surprise="s3cret",
        secrets={"lower": True},
        permissions=[{"service": "tinycloud.kv"}],
    )
    ran = await desk.run("manifest", "check", bad, "--json", home=False)
    faults = json.loads(ran.out)
    assert (ran.status, [one["path"] for one in faults]) == (1, ["surprise"]), ran
    assert "s3cret" not in ran.out + ran.err
    for verb in ("explain", "grant"):
        ran = await desk.run("manifest", verb, bad, home=False)
        assert ran.status == 2, ran
        assert ran.out == ""
        assert ran.next == f"correct the file, then run: sealspace manifest check {bad}"
        assert ran.err.count("next:") == 1, ran
        assert "check_manifest" not in ran.err


async def test_an_action_that_no_node_has(desk: Desk) -> None:
    """An unknown action is reported with the nearest one, and nothing is granted (MF19)."""
    entry = {"service": "tinycloud.kv", "path": "x", "actions": ["lst"]}
    path = manifest(desk.folder, permissions=[entry], did=SOMEBODY)
    for verb, status in (("check", 1), ("explain", 2), ("grant", 2)):
        ran = await desk.run("manifest", verb, path, home=False)
        assert ran.status == status, ran
        assert "did you mean list?" in ran.out + ran.err


async def test_explain(desk: Desk) -> None:
    """A manifest is explained in words and as JSON, without a login."""
    path = manifest(desk.folder, secrets={"API_KEY": True})
    ran = await desk.run("manifest", "explain", path, home=False)
    assert ran.status == 0, ran
    assert "the secret API_KEY" in ran.out
    lines = json.loads((await desk.run("manifest", "explain", path, "--json", home=False)).out)
    assert "secret" in {one["kind"] for one in lines}


async def test_MF23_explain_asks_the_node(desk: Desk) -> None:
    """The explanation has what the node of the login serves, also after the session has gone, and
    names what this node lacks."""
    sql = {"service": "tinycloud.sql", "path": "notes", "actions": ["read"]}
    duckdb = {"service": "tinycloud.duckdb", "path": "/", "actions": ["read"]}
    path = manifest(desk.folder, permissions=[sql, duckdb])
    await desk.log_in()
    (desk.home / "session.json").unlink()
    of_login = await desk.run("manifest", "explain", path)
    assert of_login.status == 0, of_login
    assert "with tinycloud.sql" in of_login.out
    assert "tinycloud.sql is not served" not in of_login.out
    assert "tinycloud.duckdb is not served by this node" in of_login.out
    assert of_login.err == ""
    elsewhere = ("--home", str(desk.folder / "absent"))
    of_option = await desk.run(
        "manifest", "explain", path, "--node", desk.node, *elsewhere, home=False
    )
    assert of_option.out == of_login.out


async def test_MF23_explain_without_a_node(desk: Desk) -> None:
    """If no node is known, nothing is left out, and the explanation says that none was asked."""
    path = manifest(desk.folder, defaults=True)
    elsewhere = ("--home", str(desk.folder / "absent"))
    ran = await desk.run("manifest", "explain", path, *elsewhere, home=False)
    assert ran.status == 0, ran
    assert "with tinycloud.sql" in ran.out
    assert "gets nothing" not in ran.out
    assert "not served" not in ran.out
    assert "no node was asked which services it offers" in ran.err


async def test_MF23_explain_at_a_node_that_does_not_answer(desk: Desk) -> None:
    """If the node does not answer, nothing is explained: it would be a guess."""
    path = manifest(desk.folder, defaults=True)
    elsewhere = ("--home", str(desk.folder / "absent"), "--node", "http://127.0.0.1:9")
    ran = await desk.run("manifest", "explain", path, *elsewhere, home=False)
    assert ran.status != 0, ran
    assert ran.out == ""
    assert ran.next != ""


async def test_an_application_gets_what_it_asks_for(desk: Desk) -> None:
    """A request is shown, confirmed, granted for one space at a time and written to one file, which
    also revokes the grants."""
    there = await desk.backend()
    await desk.log_in()
    assert (await desk.run("secret", "put", "API_KEY", given=SECRET)).status == 0
    did = there.program.backend.did
    notes = {
        "service": "tinycloud.kv",
        "space": "default",
        "path": "notes/",
        "actions": ["get"],
        "skipPrefix": True,
    }
    path, out = (
        manifest(desk.folder, did=did, secrets={"API_KEY": True}, permissions=[notes]),
        desk.folder / "g.json",
    )
    ran = await desk.run("manifest", "grant", path, "--out", str(out))
    assert ran.status == 2, ran
    assert ran.next == "add --yes"
    assert not out.exists(), ran
    assert "the secret API_KEY" in ran.err
    ran = await desk.run("manifest", "grant", path, "--out", str(out), typed="y\n")
    assert ran.status == 0, ran
    portables = decode_bundle(out.read_bytes().strip())
    assert {one.delegate_did for one in portables} == {did}
    (portable,) = portables
    spaces = {one.space for one in portable.resources}
    assert len(spaces) == 3  # two spaces and the network: one grant, which ends at once (MF12)
    listed = json.loads((await desk.run("grant", "list", "--json")).out)
    assert {one["cid"] for one in listed} == {one.cid for one in portables}
    shown = await desk.run("grant", "show", str(out), home=False)
    assert (shown.status, shown.out.count("state    active")) == (0, len(portables))
    assert (await desk.run("grant", "revoke", str(out))).status == 0
    assert {
        one["state"] for one in json.loads((await desk.run("grant", "list", "--json")).out)
    } == {"revoked"}


@pytest.mark.parametrize(
    ("members", "options", "said"),
    [
        ({}, (), "--to DID"),
        (
            {"did": SOMEBODY},
            ("--yes",),
            "nothing that can be granted",
        ),
        (
            {"permissions": [{"service": "tinycloud.duckdb", "path": "/", "actions": ["read"]}]},
            ("--to", SOMEBODY, "--yes"),
            "tinycloud.duckdb is not served",
        ),
    ],
)
async def test_what_cannot_be_granted(
    desk: Desk, members: dict[str, object], options: tuple[str, ...], said: str
) -> None:
    """Without a recipient, without rights, or for a service that the node lacks, nothing is
    signed."""
    await desk.log_in()
    ran = await desk.run("manifest", "grant", manifest(desk.folder, **members), *options)
    assert ran.status == 2, ran
    assert said in ran.err
    assert (await desk.run("grant", "list", "--json")).out == "[]\n"
