"""An owner's commands against a real node and a real backend: from an address to a granted and a
refused backend."""

import json
import re
import stat
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from attacks.parties import release_to_machine
from backend_desk import COMPOSE_HASH, EVIL, IMAGE, PROVIDER, SECRET, Desk
from deviating_platform import CollateralOptions
from embedded_node import embedded_node
from trust_settings import trusting_config

from capabilities.strict_base64 import encode_standard
from sealspace.client import Client
from sealspace.session import load_session
from sealspace.wallets import wallet_from_key
from sealspace.wire.portable import decode_portable
from sealspace.wire.token_line import read_token


async def test_from_an_address_to_a_granted_and_a_refused_backend(desk: Desk) -> None:
    """An approved backend reads a granted secret, until its code is withdrawn; other backends are
    refused."""
    good, evil = await desk.backend(), await desk.backend(EVIL, seed=2)
    await desk.log_in()
    assert (await desk.run("secret", "put", "API_KEY", given=SECRET + "\n")).status == 0
    approved = desk.folder / "approved.json"
    approved.write_text((await desk.run("backend", "show", good.url, "--json")).out)
    granted = await desk.run("backend", "grant", good.url, "--like", str(approved))
    assert (granted.status, good.program.read) == (0, {"API_KEY": SECRET}), granted
    assert "handed over" in granted.err and COMPOSE_HASH in granted.out
    assert re.search(r"^granted until \d{4}-\S+Z: bafk", granted.err, re.MULTILINE), granted
    for option in (("--like", str(approved)), ("--expect", COMPOSE_HASH)):
        refused = await desk.run("backend", "grant", evil.url, *option)
        assert (refused.status, evil.program.read) == (14, {})
        assert "do not grant" in refused.next
    withdrawn = await desk.run("backend", "withdraw", good.url, "--yes")
    assert withdrawn.status == 0, withdrawn
    again = await desk.run("backend", "grant", good.url, "--yes")
    assert again.status == 15
    assert "withdrawn" in again.err
    assert "sealspace backend revoke" in again.next


async def test_nothing_secret_is_said_or_left_open(desk: Desk) -> None:
    """The output contains no value and no key, and only the owner can read the stored files."""
    there = await desk.backend()
    said = [await desk.log_in()]
    said.append(await desk.run("secret", "put", "API_KEY", given=SECRET))
    for arguments in (
        ("secret", "list"),
        ("backend", "show", there.url),
        ("backend", "grant", there.url, "--yes"),
        ("backend", "list", "--json"),
        ("receipts", "list", "--json"),
    ):
        said.append(await desk.run(*arguments))
    assert [ran.status for ran in said] == [0] * len(said), said
    key = (desk.home / "wallet.key").read_text().strip()
    session = json.loads((desk.home / "session.json").read_text())["seed"]
    for ran in said:
        for hidden in (SECRET, key, session):
            assert hidden not in ran.out + ran.err
    for path in (desk.home, *desk.home.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_show_needs_no_login(desk: Desk) -> None:
    """`backend show` works without a login, in words and as JSON."""
    there = await desk.backend()
    trust = (
        "--trust-root",
        str(desk.folder / "root.pem"),
        "--collateral",
        str(desk.folder / "collateral"),
    )
    reported = await desk.run("backend", "show", there.url, *trust)
    assert reported.status == 0, reported
    assert COMPOSE_HASH in reported.out
    assert "debug off" in reported.out
    reported = await desk.run("backend", "show", there.url, "--json", *trust)
    assert json.loads(reported.out)["secrets"] == ["API_KEY"]
    assert not desk.home.exists()


async def test_nobody_confirms_for_the_owner(desk: Desk) -> None:
    """Without a terminal and without --yes nothing is granted, but the evidence is shown."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    reported = await desk.run("backend", "grant", there.url)
    assert reported.status == 2
    assert COMPOSE_HASH in reported.out
    assert "--like" in reported.next and "--yes" in reported.next
    assert there.program.read == {} and (await desk.run("backend", "list")).out == ""


async def test_a_part_of_the_code_is_not_enough(desk: Desk) -> None:
    """A compose hash alone does not identify code, because any image's log can contain it (AT22,
    AT53)."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    image = [one.hex() for one in (IMAGE.mrtd, IMAGE.rtmr0, IMAGE.rtmr1, IMAGE.rtmr2)]
    application = [*image, COMPOSE_HASH]
    for known in (
        [COMPOSE_HASH],
        image,
        application,
        [*application, "kms"],
        [*image[:3], COMPOSE_HASH, PROVIDER],
    ):
        reported = await desk.run(
            "backend", "grant", there.url, *_expecting(known), "--secret", "API_KEY"
        )
        assert (reported.status, there.program.read) == (2, {}), reported
    assert "key provider" in reported.next
    reported = await desk.run(
        "backend", "grant", there.url, *_expecting([*application, PROVIDER]), "--secret", "API_KEY"
    )
    assert (reported.status, there.program.read) == (0, {"API_KEY": SECRET}), reported


async def test_another_key_provider_than_expected(desk: Desk) -> None:
    """The key provider is compared like every other expected fact (AT53)."""
    there = await desk.backend()
    await desk.log_in()
    for other in ("tpm", PROVIDER + "00", "local-sgx:00"):
        reported = await desk.run("backend", "grant", there.url, *_expecting([other]))
        assert (reported.status, there.program.read) == (14, {}), reported
    for nonsense in ("none", "kms:", "kms:XX", "local-sgx"):
        assert (await desk.run("backend", "grant", there.url, *_expecting([nonsense]))).status == 2


async def test_approved_code_whose_keys_anybody_may_give_is_asked_about(desk: Desk) -> None:
    """A policy with a compose file and no key provider does not determine all code that runs there
    (AT53)."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    seen = json.loads((await desk.run("backend", "show", there.url, "--json")).out)["policy"]
    path = desk.folder / "approved.json"
    for policy in (without(seen, "keyProviders"), seen | {"keyProviders": ["kms"]}):
        path.write_text(json.dumps(policy))
        reported = await desk.run(
            "backend", "grant", there.url, "--like", str(path), "--secret", "API_KEY"
        )
        assert (reported.status, there.program.read) == (2, {}), reported
    started = json.loads(
        (await desk.run("backend", "show", there.url, "--json", "--pin", "instance")).out
    )["policy"]
    for policy in (seen, without(started, "keyProviders")):
        there.program.read.clear()
        path.write_text(json.dumps(policy))
        reported = await desk.run(
            "backend", "grant", there.url, "--like", str(path), "--secret", "API_KEY"
        )
        assert (reported.status, there.program.read) == (0, {"API_KEY": SECRET}), reported


def without(policy: dict[str, Any], member: str) -> dict[str, Any]:
    """Return the policy without one member."""
    return {name: value for name, value in policy.items() if name != member}


def _expecting(known: list[str]) -> list[str]:
    return [f"--expect={one}" for one in known]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"policy": null}', '{"policy": {"maxAgeSeconds": 60}}', '{"a": 1}']
)
async def test_files_that_approve_nothing(desk: Desk, text: str) -> None:
    """A policy file that names no code grants nothing."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    path = desk.folder / "approved.json"
    path.write_text(text)
    reported = await desk.run("backend", "grant", there.url, "--like", str(path))
    assert (reported.status, there.program.read) == (2, {}), reported
    assert reported.next


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("n\n", 1), ("", 1)])
async def test_an_owner_at_a_terminal_is_asked(desk: Desk, typed: str, status: int) -> None:
    """An owner at a terminal sees the evidence and is asked; an empty answer means no."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    reported = await desk.run("backend", "grant", there.url, typed=typed or "\n")
    assert (reported.status, there.program.read == {}) == (status, status != 0), reported
    assert COMPOSE_HASH in reported.out and "grant access to exactly this code?" in reported.err


async def test_how_grants_stand(desk: Desk) -> None:
    """The command `backend list` shows each grant and whether it is revoked."""
    there = await desk.backend()
    await desk.log_in()
    nothing = await desk.run("backend", "list")
    assert nothing.status == 0
    assert nothing.out == ""
    assert "sealspace backend show" in nothing.err
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    assert (await desk.run("backend", "grant", there.url, "--yes", "--expires", "12h")).status == 0
    (row,) = json.loads((await desk.run("backend", "list", "--json")).out)
    assert row["state"] == "active"
    assert row["url"] == there.url
    assert row["secrets"] == ["API_KEY"]
    assert row["expiresAt"].endswith("Z")
    for said in ("revoked 1 grant\n", "all grants were already revoked\n"):
        ran = await desk.run("backend", "revoke", there.url)
        assert (ran.status, ran.err) == (0, said)
    assert (await desk.run("backend", "list")).out.startswith("revoked")
    there.program.read.clear()
    assert (await desk.run("backend", "grant", there.url, "--yes")).status == 0
    assert there.program.read == {"API_KEY": SECRET}


async def test_no_grant_that_the_node_could_not_judge(desk: Desk) -> None:
    """Nothing is signed if the node lacks the platform's root or its collateral (AT59)."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    trust = (
        "--trust-root",
        str(desk.folder / "root.pem"),
        "--collateral",
        str(desk.folder / "collateral"),
    )
    for number, (release, said, step) in enumerate(
        (
            (
                {"trust_root": None, "collateral": None},
                "does not trust the backend's platform",
                "--trust-root",
            ),
            ({"collateral": None}, "is missing", "sealspace admin collateral import"),
            ({"key_providers": ("tpm",)}, "does not accept", "that the node accepts: tpm"),
        )
    ):
        config = trusting_config(desk.folder / f"other{number}", desk.platform, release=release)
        node = await desk.stack.enter_async_context(embedded_node(config))
        home = ("--home", str(desk.folder / f"home{number}"))
        assert (await desk.run("login", node.url, "--new", *trust, *home, home=False)).status == 0
        assert (
            await desk.run("secret", "put", "API_KEY", *home, given=SECRET, home=False)
        ).status == 0
        ran = await desk.run("backend", "grant", there.url, *home, typed="y\n", home=False)
        assert ran.status == 14, ran
        assert said in ran.err
        assert step in ran.next
        assert "grant access to exactly this code?" not in ran.err
        assert (await desk.run("grant", "list", "--json", *home, home=False)).out == "[]\n"
    assert there.program.read == {}


@pytest.mark.parametrize("verb", ["show", "grant"])
async def test_what_is_no_address_is_not_asked(desk: Desk, verb: str) -> None:
    """An invalid address is refused before any other step."""
    ran = await desk.run("backend", verb, "nonsense")
    assert ran.status == 2, ran
    assert ran.out == ""
    assert "asking" not in ran.err
    assert "https://" in ran.next


async def test_a_grant_by_file(desk: Desk) -> None:
    """The portable form of a grant can be handed over as a file."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    reported = await desk.run("backend", "grant", there.url, "--yes", "--no-hand-over", "--json")
    path = Path(json.loads(reported.out)["file"])
    assert there.program.read == {}
    await there.program.accept(decode_portable(path.read_bytes()))
    assert there.program.read == {"API_KEY": SECRET}


async def test_a_grant_is_delivered_from_a_file(desk: Desk, tmp_path: Path) -> None:
    """A file is sent to the address of an earlier grant, or else to the named address."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    made = await desk.run("backend", "grant", there.url, "--yes", "--no-hand-over", "--json")
    file = tmp_path / "grants.json"
    file.write_bytes(Path(json.loads(made.out)["file"]).read_bytes())
    did = there.program.backend.did
    elsewhere = ("backend", "deliver", str(file), "--home", str(tmp_path / "elsewhere"))
    ran = await desk.run(*elsewhere, home=False)
    assert ran.status == 2 and f"the address of {did} is not known" in ran.err, ran
    for command, home in (((*elsewhere, "--to", there.url), False), (elsewhere[:3], True)):
        there.program.read.clear()
        ran = await desk.run(*command, "--json", home=home)
        assert (ran.status, json.loads(ran.out)) == (0, {"url": there.url}), ran
        assert there.program.read == {"API_KEY": SECRET}
    file.write_text("{}")
    assert "does not contain a grant" in (await desk.run(*elsewhere, home=False)).err


async def test_receipts_of_machine_tokens(desk: Desk) -> None:
    """A read by a machine token is listed with the token's name, and verifies offline (MT5)."""
    await desk.log_in()
    wallet = wallet_from_key((desk.home / "wallet.key").read_text().strip())
    did = await release_to_machine(desk.node, desk.platform, wallet, name="ci-2")
    kept = desk.folder / "kept"
    ran = await desk.run("receipts", "list", "--out", str(kept))
    cells = re.split(r"\s{2,}", ran.out.strip())
    assert cells[1:] == ["machine token ci-2", "API_KEY", "default", did]
    (path,) = (kept / "receipts").iterdir()
    node = ("--node-did", json.loads(path.read_text())["node"])
    trust = ("--trust-root", str(desk.folder / "root.pem"))
    ran = await desk.run("verify", str(path), *node, *trust, home=False)
    assert ran.status == 0, ran
    assert "machine token ci-2" in ran.out
    ran = await desk.run("verify", str(path), *node, *trust, "--json", home=False)
    said = json.loads(ran.out)
    assert said["ground"] == "machine"
    assert said["machine"] == "ci-2"


async def test_reads_by_others(desk: Desk) -> None:
    """Reads by a colleague, a machine token and a backend are listed by name, chosen by secret and
    reader, and counted since the last list (RC33, RC37)."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    await desk.run("secret", "put", "OTHER", given=SECRET)
    bobs = str(desk.folder / "bob")

    async def as_bob(*arguments: str) -> str:
        ran = await desk.run(*arguments, "--home", bobs, home=False)
        assert ran.status == 0, ran
        return ran.out

    await as_bob("login", desk.node, "--new")
    bob = json.loads(await as_bob("whoami", "--json"))["owner"]
    alice = json.loads((await desk.run("whoami", "--json")).out)["owner"]
    assert (await desk.run("secret", "share", "OTHER", "--with", bob)).status == 0
    assert "0 in the last 30 days" in (await desk.run("status")).out
    assert await as_bob("secret", "get", "OTHER", "--from", alice)
    await desk.run("backend", "grant", there.url, "--yes")
    made = await desk.run("token", "create", "deploy", "--secret", "API_KEY")
    async with Client(desk.node, session=read_token(made.out)) as program:
        assert await program.secrets().get("API_KEY") == SECRET
    assert "3 in the last 30 days" in (await desk.run("status")).out

    async def listed(*options: str) -> list[tuple[str, str]]:
        ran = await desk.run("receipts", "list", "--json", *options)
        assert ran.status == 0, ran
        rows = json.loads(ran.out)
        return [(one.get("machine") or one.get("reader", ""), *one["secrets"]) for one in rows]

    fetched, attested, by_token = (bob, "OTHER"), ("", "API_KEY"), ("deploy", "API_KEY")
    assert await listed("--secret", "OTHER") == [fetched]
    assert await listed("--secret", "API_KEY") == [attested, by_token]
    assert await listed("--by", "deploy") == [by_token]
    assert await listed("--by", bob) == [fetched]
    assert await listed("--by", there.program.backend.did, "--secret", "OTHER") == []
    assert "3 in the last 30 days" in (await desk.run("status")).out  # no full list so far
    assert await listed() == [fetched, attested, by_token]
    assert "0 since your last `sealspace receipts list`" in (await desk.run("status")).out
    assert stat.S_IMODE((desk.home / "visit.json").stat().st_mode) == 0o600
    await desk.run("secret", "put", "API_KEY", given="changed")
    assert await listed("--by", "deploy") == [by_token]  # from the token's paths
    await desk.run("token", "revoke", "deploy")
    made = await desk.run("token", "create", "both", "--secret", "API_KEY", "--secret", "OTHER")
    async with Client(desk.node, session=read_token(made.out)) as program:
        assert await program.secrets().get("API_KEY") == "changed"
    await desk.run("secret", "put", "API_KEY", given="changed again")
    assert await listed("--by", "both") == [("both", "API_KEY")]  # from a value that is kept
    for nonsense in (("--by", "nobody"), ("--secret", "NOTHING")):
        assert (await desk.run("receipts", "list", *nonsense)).status == 21


async def test_receipts(desk: Desk) -> None:
    """Receipts are listed with recipient and secret, and saved ones can be verified without the
    node."""
    there = await desk.backend()
    await desk.log_in()
    nothing = await desk.run("receipts", "list")
    assert nothing.status == 0
    assert nothing.out == ""
    assert nothing.err == "no receipts\n"
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    await desk.run("backend", "grant", there.url, "--yes")
    did = there.program.backend.did
    ran = await desk.run("receipts", "list")
    at, why, secret, network, invoker = re.split(r"\s{2,}", ran.out.strip())
    assert ran.status == 0
    assert why == "proved its code"
    assert secret == "API_KEY"
    assert network == "default"
    assert invoker == did
    assert at.endswith("Z") and ran.err.startswith("valid receipts: 1, signed by the node did:key:")
    assert (await desk.run("secret", "get", "API_KEY")).status == 0
    again = await desk.run("receipts", "list")
    assert again.out == ran.out
    assert (
        again.err.splitlines()[0]
        == "receipts of your own reads are not listed (1); to list them, add --all"
    )
    (_, own) = (await desk.run("receipts", "list", "--all")).out.splitlines()
    assert re.split(r"\s{2,}", own)[1:4] == ["you", "API_KEY", "default"]
    kept = desk.folder / "kept"
    (receipt,) = json.loads((await desk.run("receipts", "list", "--json", "--out", str(kept))).out)
    assert receipt["invoker"] == did
    assert receipt["at"] == at
    assert receipt["secrets"] == ["API_KEY"]
    (path,) = [one for one in (kept / "receipts").iterdir() if did in one.read_text()]
    assert receipt["node"] in ran.err
    trust = ("--trust-root", str(desk.folder / "root.pem"), "--node-did", receipt["node"])
    judged = await desk.run("verify", str(path), *trust, home=False)
    assert judged.status == 0, judged
    assert judged.out.startswith("valid")
    assert at in judged.out
    judged = await desk.run("verify", str(path), "--json", *trust, home=False)
    assert json.loads(judged.out)["invoker"] == did
    another = ("--trust-root", str(desk.folder / "root.pem"), "--node-did", did)
    assert (await desk.run("verify", str(path), *another, home=False)).status == 12


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (("--since", "1h"), 1),
        (("--since", "2020-01-31"), 1),
        (("--since", "2120-01-31T00:00:00Z"), 0),
        (("--backend", "URL"), 1),
        (("--backend", "DID"), 1),
        (("--backend", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"), 0),
    ],
)
async def test_some_receipts(desk: Desk, options: tuple[str, str], number: int) -> None:
    """The list of receipts can be limited to a time or to one backend."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    await desk.run("backend", "grant", there.url, "--yes")
    named = {"URL": there.url, "DID": there.program.backend.did}
    ran = await desk.run(
        "receipts", "list", "--json", options[0], named.get(options[1], options[1])
    )
    assert (ran.status, len(json.loads(ran.out))) == (0, number), ran
    for nonsense in (("--since", "soon"), ("--backend", "https://nobody.example")):
        ran = await desk.run("receipts", "list", *nonsense)
        assert (ran.status, ran.out) == (2 if "soon" in nonsense else 21, "")


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        (("secret", "list"), 10, " login URL --new"),
        (("backend", "list"), 10, " login URL --new"),
        (("backend", "grant", "http://127.0.0.1:1"), 10, " login URL --new"),
        (("receipts", "list"), 10, " login URL --new"),
        (("login", "--node", "http://127.0.0.1:1"), 10, "--new"),
        (("login", "--node", "http://127.0.0.1:1", "--new"), 11, "running"),
        (("login", "--node", "http://node.example", "--new"), 2, "https://"),
        (("backend", "show", "http://127.0.0.1:1"), 11, "running"),
        (("backend", "show", "backend"), 2, "https://"),
    ],
)
async def test_errors_name_the_next_step(
    desk: Desk, arguments: tuple[str, ...], status: int, hint: str
) -> None:
    """On an empty machine every command says in two lines what is missing and what to do."""
    reported = await desk.run(*arguments)
    assert (reported.status, reported.out) == (status, "")
    assert hint in reported.next, reported
    assert reported.err.splitlines()[-2].startswith("sealspace: ")


def _spoil_session(desk: Desk) -> None:
    (desk.home / "session.json").write_text("{}")


def _other_network_key(desk: Desk) -> None:
    value = json.loads((desk.home / "session.json").read_text())
    (pin,) = value["networks"]  # the login keeps the key that it found
    pin["publicEncryptionKey"] = encode_standard(bytes(32))
    (desk.home / "session.json").write_text(json.dumps(value))


def _spoil_profile(desk: Desk) -> None:
    (desk.home / "profile.json").write_text("[]")


def _open_key(desk: Desk) -> None:
    (desk.home / "wallet.key").chmod(0o644)


def _open_session(desk: Desk) -> None:
    (desk.home / "session.json").chmod(0o640)


def _other_key(desk: Desk) -> None:
    (desk.home / "wallet.key").write_text("0x" + "11" * 32)


def _no_key(desk: Desk) -> None:
    (desk.home / "wallet.key").write_text(SECRET)


def _no_collateral(desk: Desk) -> None:
    (desk.folder / "collateral" / "platform.json").unlink()


def _stale_collateral(desk: Desk) -> None:
    document = desk.platform.collateral_json(
        time.time(), options=CollateralOptions(issued_before_s=40 * 86_400)
    )
    (desk.folder / "collateral" / "platform.json").write_bytes(document)


@pytest.mark.parametrize(
    ("spoil", "status", "hint"),
    [
        (_spoil_session, 10, "sealspace login"),
        (_spoil_profile, 10, "sealspace login"),
        (_open_key, 10, "chmod 600"),
        (_open_session, 10, "session.json"),
        (_other_key, 10, "sealspace login"),
        (_no_key, 10, "64 hex digits"),
        (_no_collateral, 13, "collateral"),
        (_stale_collateral, 13, "new collateral"),
    ],
)
async def test_what_is_broken_is_named(
    desk: Desk, spoil: Callable[[Desk], None], status: int, hint: str
) -> None:
    """The error about a damaged session, key or collateral names it and says what to do. Nothing is
    granted."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    spoil(desk)
    reported = await desk.run("backend", "grant", there.url, "--yes")
    assert reported.status == status, reported
    assert hint in reported.next
    assert there.program.read == {}, reported
    assert SECRET not in reported.err


async def test_a_network_s_key_that_changed(desk: Desk) -> None:
    """A login pins the network's key, and nothing is encrypted to another key (EN30)."""
    await desk.log_in()
    _other_network_key(desk)
    ran = await desk.run("secret", "put", "API_KEY", given=SECRET)
    assert ran.status == 12
    assert "changed" in ran.err
    assert "sealspace login" in ran.next


@pytest.mark.parametrize(
    ("more", "status", "hint"),
    [
        (("--secret", "OTHER"), 2, "manifest"),
        (("--expires", "never"), 2, "30m"),
        (("--expires", "0d"), 2, "30m"),
        (("--expect", "abc"), 2, "64 hex digits"),
    ],
)
async def test_arguments_that_make_no_sense(
    desk: Desk, more: tuple[str, ...], status: int, hint: str
) -> None:
    """A secret that the manifest lacks and an invalid time are refused before anything is
    granted."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    reported = await desk.run("backend", "grant", there.url, "--yes", *more)
    assert reported.status == status, reported
    assert hint in reported.next
    assert there.program.read == {}, reported


async def test_a_secret_that_is_not_there(desk: Desk) -> None:
    """Granting a secret that is not stored names the command that stores it."""
    there = await desk.backend()
    await desk.log_in()
    reported = await desk.run("backend", "grant", there.url, "--yes")
    assert reported.status == 2
    assert "sealspace secret put API_KEY" in reported.next


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("withdraw",), 2),
        (("withdraw", "x", "--measurement", "y"), 2),
        (("revoke", "http://127.0.0.1:1"), 21),
        (("withdraw", "x", "--yes"), 21),
    ],
)
async def test_ending_what_there_is_not(
    desk: Desk, arguments: tuple[str, ...], status: int
) -> None:
    """Revoking needs exactly one known target."""
    await desk.log_in()
    assert (await desk.run("backend", *arguments)).status == status


async def test_withdrawing_code(desk: Desk) -> None:
    """Code is withdrawn for all backends. Without a terminal this needs --yes."""
    there = await desk.backend()
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given=SECRET)
    asked = await desk.run("backend", "withdraw", "--measurement", COMPOSE_HASH)
    assert (asked.status, asked.next) == (2, "add --yes")
    assert (
        await desk.run("backend", "withdraw", "--measurement", COMPOSE_HASH, "--yes")
    ).status == 0
    reported = await desk.run("backend", "grant", there.url, "--yes")
    assert (reported.status, there.program.read) == (15, {})


async def test_values_come_from_standard_input(desk: Desk) -> None:
    """One line break at the end is dropped unless an option keeps it. Empty input and input that is
    not text are refused."""
    await desk.log_in()
    async with AsyncExitStack() as stack:
        session = load_session(desk.home / "session.json")
        client = await stack.enter_async_context(Client(desk.node, session=session))
        for given, more, kept in (
            (" a\n", (), " a"),
            ("a\r\n", (), "a"),
            ("a\n", ("--keep-newline",), "a\n"),
        ):
            assert (await desk.run("secret", "put", "NAME", *more, given=given)).status == 0
            assert await client.secrets().get("NAME") == kept
    assert (await desk.run("secret", "put", "NAME", given="\n")).status == 2
    assert (await desk.run("secret", "put", "name", given="x")).status == 2
    assert (await desk.run("secret", "delete", "NAME")).status == 0
    assert (await desk.run("secret", "list", "--json")).out == "[]\n"
