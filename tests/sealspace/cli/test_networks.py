"""Tests of the `sealspace network` commands: show, create, set a policy and revoke."""

import json

import pytest
from backend_desk import IMAGE, Desk

from encryption_network.policy import Policy, policy_json
from tee_backend.evidence.simulated import measurements_of

POLICY = Policy(measurements=(measurements_of("image"),))


async def test_what_the_node_demands(desk: Desk) -> None:
    """The command shows a network's state, key, requirements and policy, in words and as JSON."""
    await desk.log_in()
    ran = await desk.run("network", "show")
    assert ran.status == 0, ran
    said = (
        "nothing from the owner in person, machine tokens and CI jobs; from everyone else proof of"
    )
    assert f"{said} approved code" in ran.out
    assert "NOT Intel" in ran.out and "there is no policy on code" in ran.out
    value = json.loads((await desk.run("network", "show", "--json")).out)
    assert value["state"] == "active"
    assert value["terms"]["attestation"] == "delegates"
    assert value["policy"] is None


async def test_a_network_made_and_ended(desk: Desk) -> None:
    """A network is created once and revoked once, and a repetition says so. Revoking asks first and
    revokes no other network."""
    await desk.log_in()
    for said in ("created", "already exists"):
        ran = await desk.run("network", "create", "production")
        assert (ran.status, ran.err.split(":")[0]) == (0, said), ran
    assert (
        json.loads((await desk.run("network", "show", "production", "--json")).out)["state"]
        == "active"
    )
    ran = await desk.run("network", "revoke", "production")
    assert (ran.status, ran.next) == (2, "add --yes")
    for said in ("revoked", "already revoked"):
        ran = await desk.run("network", "revoke", "production", "--yes")
        assert (ran.status, ran.err.split(":")[0]) == (0, said), ran
    assert (
        json.loads((await desk.run("network", "show", "production", "--json")).out)["state"]
        == "revoked"
    )
    assert json.loads((await desk.run("network", "show", "--json")).out)["state"] == "active"
    ran = await desk.run("network", "create", "production")
    assert ran.status == 1, ran
    assert "revoked" in ran.err


async def test_a_policy_set_from_a_file(desk: Desk) -> None:
    """Changes of a policy are shown before the question; the policy is then set, read back and
    removed."""
    await desk.log_in()
    file = desk.folder / "policy.json"
    file.write_text(json.dumps(policy_json(POLICY)))
    ran = await desk.run("network", "policy", "--set", str(file))
    assert (ran.status, ran.next) == (2, "add --yes")
    assert (
        f"+ code MRTD {IMAGE.mrtd.hex()}" in ran.err and "- there is no policy on code" in ran.err
    )
    assert (await desk.run("network", "policy", "--json")).out == "null\n"
    for typed, status in (("n\n", 1), ("y\n", 0)):
        ran = await desk.run("network", "policy", "--set", str(file), typed=typed)
        assert ran.status == status, ran
        assert "may admit code that was refused" in ran.err
    assert json.loads((await desk.run("network", "policy", "--json")).out) == policy_json(POLICY)
    ran = await desk.run("network", "policy", "--set", str(file))
    assert (ran.status, ran.err) == (0, "no change\n")
    file.write_text(json.dumps(policy_json(POLICY) | {"inPerson": False}))
    ran = await desk.run("network", "policy", "--set", str(file), "--yes")
    assert ran.status == 0, ran
    assert "+ the owner's own sessions have to prove their code too" in ran.err
    shown = await desk.run("network", "policy")
    assert IMAGE.mrtd.hex() in shown.out
    assert (await desk.run("network", "policy", "--remove", "--yes")).status == 0
    assert (await desk.run("network", "policy")).out == "there is no policy on code\n"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"surprise": 1}', '{"measurements": []}'])
async def test_what_is_no_policy(desk: Desk, text: str) -> None:
    """A file without a valid policy is reported and changes nothing."""
    await desk.log_in()
    file = desk.folder / "policy.json"
    file.write_text(text)
    ran = await desk.run("network", "policy", "--set", str(file), "--yes")
    assert ran.status == 2, ran
    assert str(file) in ran.err
    assert (await desk.run("network", "policy", "--json")).out == "null\n"


@pytest.mark.parametrize(
    "arguments", [("show", "absent"), ("revoke", "absent", "--yes"), ("policy", "absent")]
)
async def test_a_network_that_is_not_there(desk: Desk, arguments: tuple[str, ...]) -> None:
    """A missing network is reported with the command that creates it."""
    await desk.log_in()
    ran = await desk.run("network", *arguments)
    assert (ran.status, ran.next) == (
        21,
        "check the name, or create the network as owner: sealspace network create absent",
    ), ran
    assert "there is no network absent on this node" in ran.happened
