"""Tests of `sealspace token` and of programs that use a machine token."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from forked_programs import forked_program
from owner_desk import OwnerDesk, Ran, owner_desk
from patience import PATIENCE_S
from running_node import RunningNode, running_node

from capabilities.strict_base64 import encode_url
from sealspace.client import Client
from sealspace.session import load_session
from sealspace.wallets import new_wallet
from sealspace.wire.token_line import read_token, token_of

VALUES = {"API_KEY": "alpha-4711", "PLAIN": "beta-4712", "OTHER_KEY": "gamma-4713"}
OF_CI = ("--secret", "API_KEY", "--secret", "PLAIN", "--scope", "ci")


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """A logged-in owner with three secrets in the scope `ci`."""
    monkeypatch.delenv("SEALSPACE_TOKEN", raising=False)
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        async with desk.client() as client:
            await client.secrets().put_many(VALUES, scope="ci")
        yield desk


async def _token(desk: OwnerDesk, name: str = "deploy") -> str:
    made = await desk.run("token", "create", name, *OF_CI)
    assert made.status == 0, made
    return made.out.removesuffix("\n")


async def _as_program(desk: OwnerDesk, line: str, *arguments: str, given: str = "") -> Ran:
    """Run a command with the two variables, in a folder without a login."""
    with desk.monkeypatch.context() as patch:
        patch.setenv("SEALSPACE_TOKEN", line)
        patch.setenv("SEALSPACE_NODE", desk.node)
        return await desk.run(*arguments, given=given, home=desk.home / "none")


# --- create ---------------------------------------------------------------------------------------


async def test_the_line_is_the_only_output(desk: OwnerDesk) -> None:
    """The command prints the token's line on standard output and the explanation on standard
    error."""
    made = await desk.run("token", "create", "deploy", *OF_CI, "--ends", "366d")
    token = token_of(read_token(made.out))
    assert token is not None and made.out == f"{made.out.strip()}\n"
    first, use, once = made.err.splitlines()
    assert first.startswith("the machine token deploy reads ci/API_KEY, ci/PLAIN, until 20")
    assert desk.node in use and use.endswith("then: sealspace run -- COMMAND")
    assert once == "the line is shown only once: store it like a password"
    assert "sst_" not in made.err


async def test_a_token_as_json(desk: OwnerDesk) -> None:
    """With --json the command prints a document that contains the token's line."""
    made = json.loads((await desk.run("token", "create", "deploy", *OF_CI, "--json")).out)
    token = token_of(read_token(made.pop("token")))
    assert token is not None and made.pop("expiresAt")
    assert made == {
        "name": "deploy",
        "secrets": ["ci/API_KEY", "ci/PLAIN"],
        "lastUsedAt": None,
        "id": token.grant.cid,
        "allowsUnbound": False,
    }


async def test_a_token_for_a_secret_that_is_not_stored(desk: OwnerDesk) -> None:
    """The command makes no token for a secret that is not stored."""
    refused = await desk.run("token", "create", "deploy", "--secret", "PLAIN")
    assert (refused.status, refused.happened) == (21, "there is no secret PLAIN")
    assert (await desk.run("token", "list")).out == ""


@pytest.mark.parametrize(
    ("ends", "status"), [("1m", 0), ("367d", 2), ("30s", 2)], ids=["shortest", "longest", "shorter"]
)
async def test_how_long_a_token_may_last(desk: OwnerDesk, ends: str, status: int) -> None:
    """A token lasts from a minute to 366 days."""
    made = await desk.run("token", "create", "deploy", *OF_CI, "--expires", ends)
    assert made.status == status
    if status:
        assert made.happened == f"--expires {ends} is not a duration from 1m to 366d"


# --- list and revoke ------------------------------------------------------------------------------


async def test_tokens_and_their_last_use(desk: OwnerDesk) -> None:
    """The list has name, secrets, expiry, last use and id of the live tokens, and no token line."""
    assert "no machine tokens" in (await desk.run("token", "list")).err
    used, unused = await _token(desk, "used"), await _token(desk, "unused")
    assert (await _as_program(desk, used, "secret", "get", "API_KEY")).out == VALUES["API_KEY"]
    listed = json.loads((await desk.run("token", "list", "--json")).out)
    assert {one["name"]: one["lastUsedAt"] is not None for one in listed} == {
        "used": True,
        "unused": False,
    }
    table = (await desk.run("token", "list")).out
    assert all(line not in table for line in (used, unused))
    (row,) = (line.split("  ") for line in table.splitlines() if line.startswith("unused"))
    assert [row[0], *row[1:2], row[3]] == ["unused", "ci/API_KEY, ci/PLAIN", "-"]


async def test_which_token_is_revoked(desk: OwnerDesk) -> None:
    """If two tokens have the given name, their ids are listed. Revoking one id leaves the other
    token live."""
    first, second = await _token(desk), await _token(desk)
    cids = {line: read_token(line).grants[0].cid for line in (first, second)}
    refused = await desk.run("token", "revoke", "deploy")
    assert (refused.status, refused.happened) == (
        21,
        "2 machine tokens in force are named deploy",
    )
    assert all(cid in refused.next for cid in cids.values())
    assert (await desk.run("token", "revoke", cids[first], typed="n\n")).status == 1
    ended = await desk.run("token", "revoke", cids[first], typed="y\n")
    assert "programs with this token can no longer read ci/API_KEY, ci/PLAIN" in ended.err
    gone = await _as_program(desk, first, "secret", "get", "API_KEY")
    assert (gone.status, gone.happened) == (10, "the machine token deploy was revoked")
    assert gone.next.endswith(
        "sealspace token create deploy --secret API_KEY --secret PLAIN --scope ci"
    )
    assert (await _as_program(desk, second, "secret", "get", "API_KEY")).status == 0
    assert (await desk.run("token", "revoke", "deploy")).status == 0
    unknown = await desk.run("token", "revoke", "deploy")
    assert (unknown.status, unknown.happened) == (21, "no machine tokens in force are named deploy")


# --- with a token ---------------------------------------------------------------------------------


async def test_secrets_of_a_token(desk: OwnerDesk) -> None:
    """The commands `secret get` and `template` read only the secrets of the token, in the token's
    scope."""
    line = await _token(desk)
    assert (await _as_program(desk, line, "secret", "get", "PLAIN")).out == VALUES["PLAIN"]
    given = '{{ secret "PLAIN" }}, {{ secret "API_KEY" }}'
    filled = await _as_program(desk, line, "template", "-", given=given)
    assert filled.out == f"{VALUES['PLAIN']}, {VALUES['API_KEY']}"
    for arguments, name in ((["OTHER_KEY"], "OTHER_KEY"), (["API_KEY", "--scope", "prod"], "API")):
        refused = await _as_program(desk, line, "secret", "get", *arguments)
        assert refused.status == 22
        assert refused.happened.startswith(f"the machine token deploy does not include {name}")
        assert refused.happened.endswith("; it reads ci/API_KEY, ci/PLAIN")


@pytest.mark.parametrize(
    "command",
    ["secret list", "secret put A", "kv list", "grant list", "token list", "console", "space list"],
)
async def test_CL5_what_only_an_owner_can_do(desk: OwnerDesk, command: str) -> None:
    """A token counts before a login, so commands of the owner are refused; the hint says how to
    use the login."""
    desk.monkeypatch.setenv("SEALSPACE_TOKEN", await _token(desk))
    refused = await desk.run(*command.split(), given="value")
    assert refused.status == 22
    assert refused.happened == "a machine token cannot do this: only the owner can"
    assert refused.next == "to use your login, run the command without SEALSPACE_TOKEN"


async def test_a_token_is_not_logged_out(desk: OwnerDesk) -> None:
    """`logout` keeps the stored login while a token is set."""
    desk.monkeypatch.setenv("SEALSPACE_TOKEN", await _token(desk))
    assert (await desk.run("logout")).status == 22
    assert load_session(desk.home / "session.json").seed is not None


async def test_no_token(desk: OwnerDesk) -> None:
    """A truncated or empty token line is an error, and never makes the command use the login."""
    line = await _token(desk)
    desk.monkeypatch.setenv("SEALSPACE_TOKEN", line[:-1])
    cut = await desk.run("secret", "get", "API_KEY")
    assert (cut.status, cut.happened) == (2, "not a sealspace token: it is cut off or mistyped")
    desk.monkeypatch.setenv("SEALSPACE_TOKEN", "")
    for command in (("secret", "get", "API_KEY"), ("whoami",)):
        empty = await desk.run(*command)
        assert (empty.status, empty.happened) == (
            10,
            "the environment variable SEALSPACE_TOKEN is empty",
        )
        assert empty.next.endswith("to use your login, unset it")
    desk.monkeypatch.setenv("SEALSPACE_TOKEN", line)
    nowhere = await desk.run("secret", "get", "API_KEY")
    assert (nowhere.status, nowhere.happened) == (
        10,
        "the environment variable SEALSPACE_NODE is not set",
    )


# --- stories --------------------------------------------------------------------------------------


async def _job(
    folder: Path, node: str, line: str, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command as a process that has the two variables and an empty home."""
    folder.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "SEALSPACE_NODE": node,
        "SEALSPACE_TOKEN": line,
    }

    def run() -> "subprocess.CompletedProcess[str]":
        with subprocess.Popen(
            [forked_program("sealspace"), *arguments],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        assert "sst_" not in err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return await asyncio.to_thread(run)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    """A node of processes."""
    with running_node(tmp_path / "node") as node:
        yield node


async def test_CL5_a_server_is_started_and_its_token_rotated(
    node: RunningNode, tmp_path: Path
) -> None:
    """CL5: a server's token is rotated without a failed read and without appearing in any
    output."""
    home = tmp_path / "home"
    server = (
        'echo "$API_KEY,$PLAIN,$OTHER_KEY"; env | grep -c SEALSPACE_; test "$PLAIN" = beta-4712'
    )
    async with Client(node.url) as owner:
        wallet = new_wallet()
        await owner.sign_in(wallet)
        await owner.secrets().put_many(VALUES, scope="ci")

        async def make() -> str:
            return await owner.delegations.create_token(
                "deploy", ["API_KEY", "PLAIN"], scope="ci", wallet=wallet
            )

        async def started(line: str) -> None:
            ran = await _job(home, node.url, line, "run", "--", "sh", "-c", server)
            assert ran.stdout == "***,***,\n0\n"
            assert ran.stderr == ""
            assert ran.returncode == 0

        old = await make()
        await started(old)
        async with Client(node.url, session=read_token(old)) as running:
            new = await make()
            await started(new)
            assert await running.secrets().get("PLAIN", scope="ci") == VALUES["PLAIN"]
        await owner.delegations.revoke(read_token(old).grants[0].cid)
        await started(new)
    refused = await _job(home, node.url, old, "run", "--", "sh", "-c", server)
    assert (refused.returncode, refused.stdout) == (10, "")
    assert refused.stderr.startswith("sealspace: the machine token deploy was revoked\n")
    assert not any(home.iterdir())
    log = "\n".join(node.lines)
    for line in (old, new):
        session = read_token(line)
        assert session.seed is not None
        hidden = (line, encode_url(session.seed), session.seed.hex(), session.grants[0].header)
        assert not [text for text in hidden if text in log]
