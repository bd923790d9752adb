"""Withdrawals of code, backends and evidence, during releases and on other workers."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from attacks.held_store import HeldStage
from attacks.parties import (
    DECRYPT,
    READ_CAPABILITIES,
    ROUTES,
    SET_POLICY,
    Delegate,
    Owner,
    Route,
    Stage,
    opens,
    policy_for,
    put_policy,
    refused,
)
from attacks.test_races import is_release, meanwhile, ready, release_records
from audit_records import audit_records
from running_node import Reply, RunningNode, network_path, send
from tests_support import CountingEntropy

from capabilities.facts import WITHDRAWAL_FACT
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.network_errors import WithdrawalError
from encryption_network.policy import Policy
from encryption_network.withdrawals import (
    MAX_NODE_ENTRIES,
    Withdrawals,
    decode_withdrawals,
    encode_withdrawals,
    parse_withdrawal,
)
from node.operations.releases.withdrawal import withdraw_everywhere
from sealspace.cli.root import main
from spaces.keyspace import WITHDRAWALS_KEY
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Commit, Put, Refused
from tee_backend.evidence.simulated import MintedLog, measurements_of, mint_event_log

APPROVED = measurements_of("approved")


async def withdraw(
    stage: Stage, who: Delegate, network: str, value: Json, *, fact: str = WITHDRAWAL_FACT
) -> Reply:
    """Request a withdrawal for a network."""
    said: Json = {
        "type": fact,
        "targetNode": stage.node_did,
        "networkId": network,
        "bodyHash": canonical_hash(value),
    }
    token = who.grant(stage.node_did, {network: [SET_POLICY]}, facts=[said], ttl_s=60)
    body = canonical_bytes(value)
    headers = {"Content-Type": "application/json"}
    return await send(
        stage.url,
        "POST",
        network_path(network, "withdraw"),
        token=token,
        body=body,
        headers=headers,
    )


def withdrawal(kind: str, delegate: Delegate, evidence: str) -> dict[str, Json]:
    """The name of the backend's release, in one of four forms."""
    ways: dict[str, dict[str, Json]] = {
        "measurement": {"measurement": APPROVED.mrtd.hex()},
        "register": {"measurement": (APPROVED.rtmr3 or b"").hex()},
        "did": {"did": delegate.did},
        "evidence": {"evidence": evidence},
    }
    return ways[kind]


KINDS = ("measurement", "register", "did", "evidence")


async def accepted_evidence(held: HeldStage) -> str:
    """Return the digest of the last accepted evidence, as the audit names it."""
    records = await audit_records(held.services.store)
    return [record.detail.decode() for record in records if record.action == "evidence.accepted"][
        -1
    ]


@pytest.mark.parametrize("by_owner", [True, False], ids=["owner", "operator"])
@pytest.mark.parametrize("kind", KINDS)
async def test_withdrawn_between_read_and_commit(
    held: HeldStage, kind: str, by_owner: bool
) -> None:
    """A release is refused if its code is withdrawn before the commit (RC21)."""
    owner, delegate = await ready(held)
    value = withdrawal(kind, delegate, await accepted_evidence(held))
    waiting = held.store.hold(is_release)

    async def change() -> None:
        if by_owner:
            assert (await withdraw(held, owner.session, owner.network, value)).status == 204
        else:
            entry, entropy = parse_withdrawal(value), CountingEntropy()
            await withdraw_everywhere(held.store, entry, now=held.clock.now(), entropy=entropy)

    reply = await meanwhile(held.ask(delegate, owner), waiting, change)
    assert reply.said == refused("withdrawn")
    assert isinstance(waiting.outcomes[0], Refused)
    assert release_records(waiting) == 0


async def test_a_withdrawal_of_something_else_in_between(held: HeldStage) -> None:
    """An unrelated withdrawal makes a release be judged again, and it succeeds (RC21)."""
    owner, delegate = await ready(held)
    waiting = held.store.hold(is_release)

    async def change() -> None:
        assert (
            await withdraw(held, owner.session, owner.network, {"measurement": "ab" * 48})
        ).status == 204

    assert opens(await meanwhile(held.ask(delegate, owner), waiting, change), delegate, owner)
    assert isinstance(waiting.outcomes[0], Refused)


@pytest.mark.parametrize("route", ROUTES)
async def test_the_owner_withdraws_for_one_network(held: HeldStage, route: Route) -> None:
    """An owner's withdrawal applies to one network only, and is audited (RC20, RC22)."""
    owner, delegate = await ready(held)
    other, backend = await ready(held)
    value: Json = {"measurement": APPROVED.mrtd.hex()}
    for _ in range(2):
        assert (await withdraw(held, owner.session, owner.network, value)).status == 204
    assert (await held.ask(delegate, owner, route)).said == refused("withdrawn", route)
    assert opens(await held.ask(backend, other, route), backend, other)
    session = owner.session
    assert opens(await held.ask(session, owner, route), session, owner)  # in person, without code
    records = await audit_records(held.services.store)
    reported = [record for record in records if record.action == "release.withdrawn"]
    assert [(record.actor, json.loads(record.detail)) for record in reported] == [
        (owner.session.did, value)
    ] * 2
    assert [json.loads(r.detail)["reason"] for r in records if r.action == "release.refused"] == [
        "withdrawn"
    ]


async def test_a_policy_written_later_keeps_withdrawals(held: HeldStage) -> None:
    """A new policy does not undo a withdrawal (RC20)."""
    owner, delegate = await ready(held)
    await withdraw(held, owner.session, owner.network, {"did": delegate.did})
    await owner.client.encryption.set_policy(
        owner.client.encryption.network(), policy_for("approved")
    )
    assert (await held.ask(delegate, owner)).said == refused("withdrawn")


async def test_a_withdrawn_backend_hands_nothing_on(held: HeldStage) -> None:
    """A delegate of a withdrawn backend with the same code is refused (RC20)."""
    owner, delegate = await ready(held)
    fresh = Delegate()
    fresh.proofs = [await held.register(delegate.grant(fresh.did, {owner.network: [DECRYPT]}))]
    await held.attest(fresh, owner.network)
    assert opens(await held.ask(fresh, owner), fresh, owner)
    await withdraw(held, owner.session, owner.network, {"did": delegate.did})
    assert (await held.ask(fresh, owner)).said == refused("withdrawn")


async def hand_in_log(
    held: HeldStage, delegate: Delegate, owner: Owner, log: MintedLog, *, shown: bool
) -> None:
    """Attest the approved image with or without its event log."""
    nonce = await held.nonce(delegate.did)
    bound = held.report_data(delegate.did, delegate.receiver.public_key, nonce)
    quote = held.platform.mint_quote(log.run_on(APPROVED), bound)
    more: dict[str, Json] = {"eventLog": log.log.to_json() if shown else None}
    reply = await held.submit_quote(delegate, owner.network, nonce=nonce, quote=quote, more=more)
    assert reply.status == 200, reply.said


@pytest.mark.parametrize("by_owner", [True, False], ids=["owner", "operator"])
async def test_a_withdrawn_application_leaves_its_log_out(held: HeldStage, by_owner: bool) -> None:
    """An application withdrawn by its compose hash is refused without its log, too (RC30)."""
    owner, delegate = await ready(held)
    log, another, other = mint_event_log(b"\xc0" * 32), mint_event_log(b"\xc1" * 32), Delegate()
    policy, rest = (Policy(measurements=(one.run_on(APPROVED),)) for one in (log, another))
    delegate.proofs = [await held.register(owner.grant_decrypt(delegate.did, policy=policy))]
    for shown in (True, False):
        await hand_in_log(held, delegate, owner, log, shown=shown)
        assert opens(await held.ask(delegate, owner), delegate, owner)
    value: dict[str, Json] = {"measurement": (b"\xc0" * 32).hex()}
    if by_owner:
        assert (await withdraw(held, owner.session, owner.network, value)).status == 204
    else:
        await withdraw_everywhere(
            held.store, parse_withdrawal(value), now=0.0, entropy=CountingEntropy()
        )
    for shown in (True, False):
        await hand_in_log(held, delegate, owner, log, shown=shown)
        assert (await held.ask(delegate, owner)).said == refused("withdrawn")
    other.proofs = [await held.register(owner.grant_decrypt(other.did, policy=rest))]
    await hand_in_log(held, other, owner, another, shown=True)
    # another application, which shows its log
    assert opens(await held.ask(other, owner), other, owner)


async def test_who_may_withdraw(held: HeldStage) -> None:
    """Only the owner in person may withdraw, and not its own DID (RC22)."""
    owner, delegate = await ready(held)
    rival = Delegate()
    rival.proofs = [await held.register(owner.grant(rival.did, {owner.network: [SET_POLICY]}))]
    value: Json = {"did": delegate.did}
    replies = [
        await withdraw(held, rival, owner.network, value),
        await withdraw(
            held, owner.session, owner.network, value, fact="sealspace.encryption.policy/v1"
        ),
        await withdraw(held, owner.session, owner.network, {"did": owner.wallet.did}),
        await withdraw(held, owner.session, owner.network, {"code": "x"}),
        await withdraw(held, owner.session, owner.network, {"measurement": "00" * 48}),
    ]
    assert [(reply.status, reply.value["code"]) for reply in replies] == [
        (403, "policy-not-in-person"),
        (403, "session-not-bound"),
        (400, "invalid-withdrawal"),
        (400, "invalid-withdrawal"),
        (400, "invalid-withdrawal"),
    ]
    assert (await withdraw(held, delegate, owner.network, value)).status == 401
    assert opens(await held.ask(delegate, owner), delegate, owner)


@pytest.mark.parametrize("by_owner", [True, False], ids=["owner", "operator"])
async def test_a_withdrawn_session_changes_nothing_more(held: HeldStage, by_owner: bool) -> None:
    """A withdrawn session key cannot loosen the policy or withdraw others (RC31)."""
    owner, thief = await held.owner(), Delegate()
    grants = {
        owner.network: [DECRYPT, SET_POLICY],
        f"{owner.space()}/capabilities": [READ_CAPABILITIES],
    }
    for key in (owner_key := Delegate(), thief):
        key.proofs = [await held.register(owner.grant(key.did_url, grants))]
    assert (await put_policy(held, thief, owner, policy_for("approved"))).status == 204
    value: dict[str, Json] = {"did": thief.did}
    if by_owner:
        assert (await withdraw(held, owner_key, owner.network, value)).status == 204
    else:
        await withdraw_everywhere(
            held.store, parse_withdrawal(value), now=0.0, entropy=CountingEntropy()
        )
    replies = [
        await put_policy(held, thief, owner, policy_for("mine")),
        await withdraw(held, thief, owner.network, {"did": owner_key.did}),
    ]
    assert [(reply.status, reply.value["code"]) for reply in replies] == [
        (403, "policy-not-in-person")
    ] * 2
    assert (await put_policy(held, owner_key, owner, policy_for("approved"))).status == 204
    assert opens(await held.ask(owner_key, owner), owner_key, owner)


async def test_withdrawn_before_a_policy_is_written(held: HeldStage) -> None:
    """A policy of a session key that is withdrawn before the commit is refused (RC31)."""
    owner, thief = await held.owner(), Delegate()
    grants = {
        owner.network: [DECRYPT, SET_POLICY],
        f"{owner.space()}/capabilities": [READ_CAPABILITIES],
    }
    thief.proofs = [await held.register(owner.grant(thief.did_url, grants))]
    waiting = held.store.hold(lambda commit: any(put.key[:1] == b"N" for put in commit.puts))

    async def change() -> None:
        entry, entropy = parse_withdrawal({"did": thief.did}), CountingEntropy()
        await withdraw_everywhere(held.store, entry, now=held.clock.now(), entropy=entropy)

    reply = await meanwhile(put_policy(held, thief, owner, policy_for("mine")), waiting, change)
    assert (reply.status, reply.value["code"]) == (403, "policy-not-in-person")
    assert release_records(waiting) == 0


async def test_a_network_that_is_not(held: HeldStage) -> None:
    """A withdrawal for a missing network is refused (RC22)."""
    owner = await held.owner()
    absent = owner.network.replace(":default", ":absent")
    holder = Delegate()
    holder.proofs = [await held.register(owner.grant(holder.did, {absent: [SET_POLICY]}))]
    assert (await withdraw(held, holder, absent, {"did": holder.did})).value[
        "code"
    ] == "network-unknown"


async def test_two_withdrawals_at_once(held: HeldStage) -> None:
    """Two concurrent withdrawals are both recorded (RC21)."""
    owner, _ = await ready(held)
    values: list[dict[str, Json]] = [
        {"measurement": f"{number:02x}" * 48} for number in range(1, 9)
    ]
    entropy = CountingEntropy()
    replies = await asyncio.gather(
        *(withdraw(held, owner.session, owner.network, value) for value in values[:4]),
        *(
            withdraw_everywhere(held.store, parse_withdrawal(v), now=0.0, entropy=entropy)
            for v in values[4:]
        ),
    )
    assert [reply.status for reply in replies if isinstance(reply, Reply)] == [204] * 4
    row = (await held.store.read((WITHDRAWALS_KEY,))).records[0]
    assert row is not None and row.value is not None
    assert {m.hex() for m in decode_withdrawals(row.value).measurements} == {
        str(v["measurement"]) for v in values[4:]
    }


async def test_a_list_that_is_missing_or_damaged(held: HeldStage) -> None:
    """Without a readable list of withdrawals nothing is released (RC21)."""
    owner, delegate = await ready(held)
    key = WITHDRAWALS_KEY
    for value in (None, b"\x90"):
        await held.store.commit(Commit(puts=(Put(key, value),)))
        assert (await held.ask(delegate, owner)).status == 500
    await held.store.commit(Commit(puts=(Put(key, None),)))
    with pytest.raises(RecordDamaged):
        await withdraw_everywhere(held.store, Withdrawals(), now=0.0, entropy=CountingEntropy())


async def test_a_full_list(held: HeldStage) -> None:
    """The operator's list is limited, and a withdrawal over the limit is refused (RC23)."""
    full = Withdrawals(
        measurements=frozenset(n.to_bytes(48, "big") for n in range(1, MAX_NODE_ENTRIES + 1))
    )
    await held.store.commit(Commit(puts=(Put(WITHDRAWALS_KEY, encode_withdrawals(full)),)))
    with pytest.raises(WithdrawalError):
        entry = parse_withdrawal({"did": "did:key:zA"})
        await withdraw_everywhere(held.store, entry, now=0.0, entropy=CountingEntropy())
    owner, delegate = await ready(held)  # a full list releases what it does not name
    assert opens(await held.ask(delegate, owner), delegate, owner)


# --- processes: workers, the operator's commands --------------------------------------------------


def data_of(node: RunningNode) -> str:
    """The data folder of a running node."""
    arguments = node.process.args
    assert isinstance(arguments, list)
    return str(arguments[arguments.index("--data") + 1])


async def approved(stage: Stage) -> tuple[Owner, Delegate]:
    """An owner, and a backend that is approved for its own program and attested."""
    owner, delegate = await stage.owner(), Delegate()
    program = delegate.did  # what is withdrawn here concerns no other test
    delegate.proofs = [
        await stage.register(owner.grant_decrypt(delegate.did, policy=policy_for(program)))
    ]
    await stage.attest(delegate, owner.network, program=program)
    return owner, delegate


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["--did", "--measurement"])
async def test_the_operator_withdraws_everywhere_at_once(
    stage: Stage, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator's withdrawal is effective on each worker at once (RC21, RC24)."""
    owner, delegate = await approved(stage)
    for worker in (0, 1):
        with stage.only(worker):
            assert opens(await stage.ask(delegate, owner), delegate, owner)
    assert stage.node is not None
    value = delegate.did if kind == "--did" else measurements_of(delegate.did).mrtd.hex()
    command = ["admin", "withdraw", "--data", data_of(stage.node), kind, value]
    assert await asyncio.to_thread(main, command) == 0
    assert value in capsys.readouterr().out
    for worker in (0, 1):
        with stage.only(worker):
            assert (await stage.ask(delegate, owner)).said == refused("withdrawn")


@pytest.mark.slow
async def test_the_operators_files_are_verified_without_the_node(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exported files verify offline, and a changed byte is found (RC6, RC15, RC17)."""
    owner, delegate = await approved(stage)
    assert opens(await stage.ask(delegate, owner), delegate, owner)
    assert stage.node is not None
    data, folder, root = data_of(stage.node), tmp_path / "kept", tmp_path / "root.pem"
    root.write_text(stage.platform.root_pem)

    async def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        status = await asyncio.to_thread(main, [*arguments])
        return status, capsys.readouterr().out

    assert await run(
        "admin", "receipts", "export", "--data", data, "--network", owner.network, str(folder)
    ) == (
        0,
        '{"receipts":1}\n',
    )
    (receipt,) = (folder / "receipts").iterdir()
    assert (await run("admin", "receipts", "list", "--data", data, "--network", owner.network))[
        1
    ] == (receipt.read_text() + "\n")
    listed = await run(
        "admin", "receipts", "list", "--data", data, "--network", owner.network, "--json"
    )
    assert listed == (0, f"[{receipt.read_text()}]\n")
    anybody = (
        "verify",
        str(receipt),
        "--evidence",
        str(folder / "documents"),
        "--trust-root",
        str(root),
    )
    judge = (*anybody, "--node-did", stage.node_did)
    status, shown = await run(*judge, "--json")
    assert (status, json.loads(shown)["ground"]) == (0, "attested")
    # RC16: a node of anybody's makes whole receipts too; whose receipt this has to be is for the
    # owner to say.
    assert await run(*anybody) == (2, "")
    assert await run(*anybody, "--node-did", delegate.did) == (12, "")
    today = tmp_path / "today.json"
    for advisories, expected in (((), 0), (("INTEL-SA-09999",), 1)):
        today.write_bytes(collateral_of(stage, advisories))
        assert (await run(*judge, "--collateral", str(today)))[0] == expected
    document = next((folder / "documents").iterdir())
    document.write_bytes(document.read_bytes() + b" ")
    assert (await run(*judge))[0] == 12

    status, lines = await run("admin", "audit", "export", "--data", data)
    audit = tmp_path / "audit.jsonl"
    audit.write_text(lines)
    assert status == 0 and hashlib.sha256(receipt.read_bytes()).hexdigest() in bytes_of_details(
        lines
    )
    status, shown = await run("verify", "--node-did", stage.node_did, str(audit))
    assert (status, json.loads(shown)["number"]) == (0, lines.count('"sealspace.audit-entry/v1"'))
    audit.write_text(lines.replace(delegate.did, owner.wallet.did, 1))
    assert (await run("verify", "--node-did", stage.node_did, str(audit)))[0] == 1


def bytes_of_details(lines: str) -> str:
    """Return the details of all exported entries as one text."""
    details = (json.loads(line).get("detail", "") for line in lines.splitlines())
    return "\n".join(bytes.fromhex(detail).decode() for detail in details)


def collateral_of(stage: Stage, advisories: tuple[str, ...]) -> bytes:
    """Return today's collateral, in which the platform has these advisories."""
    import time

    from deviating_platform import CollateralOptions

    return stage.platform.collateral_json(
        time.time(), options=CollateralOptions(advisories=advisories)
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["admin", "withdraw"],
        ["admin", "withdraw", "--did", "did:key:z", "--measurement", "00"],
        ["admin", "withdraw", "--measurement", "00"],
        ["admin", "receipts", "list", "--network", "nothing"],
    ],
)
def test_commands_that_say_nothing_useful(arguments: list[str]) -> None:
    """A command with missing, conflicting or unknown names exits with status 2."""
    assert main(arguments) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_files_that_are_none(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command exits with status 12 for an unusable file and with status 2 for a missing file."""
    path = tmp_path / "file"
    path.write_bytes(content)
    did = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
    for status, arguments in (
        (12, ["verify", str(path), "--evidence", str(tmp_path), "--node-did", did]),
        (2, ["verify", str(tmp_path / "absent"), "--evidence", str(tmp_path), "--node-did", did]),
    ):
        assert main(arguments) == status
        assert len(capsys.readouterr().err.splitlines()) == 2
