"""Tests of `sealspace mcp` with an agent's client, a server process and a real node."""

import asyncio
import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from https_service import https_service
from mcp_agent import CANARY, LISTED, NO, SHOW, YES, Person, agent_of, allow, rules_file
from owner_machine import Owner
from pydantic import ValidationError
from running_node import COMMAND, is_alive, until
from tests_support import REPOSITORY

from sealspace.cli.use.agent_rules import Command, FullRequest, read_rules
from sealspace.errors import InvalidInput


@pytest.fixture
def owner(forking_owner: Owner) -> Owner:
    """The owner of most tests, whose commands run in forks because a start takes two seconds."""
    return forking_owner


# --- commands -------------------------------------------------------------------------------------


async def test_AG2_three_tools(owner: Owner) -> None:
    """AG2: there are three tools; names are listed, values never."""
    await owner.store_secrets(API_KEY=CANARY, OTHER=CANARY)
    await owner.store_secrets("ci", SCOPED=CANARY)
    async with agent_of(owner) as agent:
        tools = (await agent.client.list_tools()).tools
        assert [one.name for one in tools] == ["list_secrets", "run_command", "https_request"]
        assert await agent.call("list_secrets") == "API_KEY\nOTHER"
        assert await agent.call("list_secrets", scope="ci") == "SCOPED"


async def test_AG3_listed_commands_run(owner: Owner) -> None:
    """AG3, AG7: a listed command runs without a question, and its output is masked."""
    await owner.store_secrets(API_KEY=CANARY)
    script = 'echo "$API_KEY"; printf %s "$API_KEY" | base64; printf %s "$API_KEY" | od -An -tx1 |'
    script += " tr -d ' \\n'; echo; echo bad >&2; exit 3 #" + "long" * 100
    allow(owner, commands=[{**LISTED, "arguments": ["-c", script]}])
    async with agent_of(owner) as agent:
        ran = await agent.run_command("/bin/sh", "-c", script)
    assert ran == "exit status 3\n***\n***\n***\nbad\n"


async def test_AG3_what_is_not_exactly_listed_is_refused(owner: Owner) -> None:
    """AG3: a command that differs from the listed ones runs only after the person confirms it."""
    await owner.store_secrets(API_KEY=CANARY, OTHER=CANARY)
    allow(owner, commands=[LISTED])
    made = owner.folder / "made"
    async with agent_of(owner) as agent:
        for told in (
            await agent.run_command(*SHOW, "more"),
            await agent.run_command("/bin/sh", "-c", f"touch {made}"),
            await agent.run_command(*SHOW, secrets=["API_KEY", "OTHER"]),
            await agent.run_command(*SHOW, folder="/usr"),
            await agent.run_command(*SHOW, scope="ci"),
            await agent.run_command("//bin/sh", *SHOW[1:]),
        ):
            assert "agents.toml: the host cannot ask the owner" in told, told
        assert not made.exists()
        told = await agent.run_command("/bin/echo", 'a "quoted" \n\x1b line', "é\\é😀\x7f")
        rules_file(owner).write_text(told.partition("to the file:\n")[2])
        assert (
            await agent.run_command("/bin/echo", 'a "quoted" \n\x1b line', "é\\é😀\x7f")
        ).startswith("exit")


@pytest.mark.parametrize(
    "wanted",
    [
        {"program": "sh"},
        {"program": "./sh"},
        {"program": "/bin/sh\0"},
        {"arguments": ["a\0b"]},
        {"secrets": []},
        {"secrets": ["API_KEY,OTHER"]},
        {"secrets": ["API_KEY\n"]},
        {"scope": "--allow-override=PATH"},
        {"folder": "here"},
        {"environment": {"LD_PRELOAD": "a.so"}},
    ],
    ids=str,
)
def test_AG3_malformed_commands(wanted: dict[str, Any]) -> None:
    """AG3: a listed command with a relative path or an unknown member is refused."""
    Command.model_validate(LISTED)
    with pytest.raises(ValidationError):
        Command.model_validate({**LISTED, **wanted})


async def test_AG4_the_environment_is_minimal(owner: Owner) -> None:
    """AG4: a command gets only HOME, PATH, LANG and the secrets in its environment."""
    await owner.store_secrets(API_KEY=CANARY)
    listed = ["-c", "env | cut -d= -f1 | sort; pwd; cat"]
    allow(owner, commands=[{**LISTED, "arguments": listed}])
    planted = {"LD_LIBRARY_PATH": "/x", "NODE_OPTIONS": "-r ./x", "GIT_SSH": "./x", "PATH": "."}
    async with agent_of(owner, variables=planted) as agent:
        ran = await agent.run_command("/bin/sh", *listed)
    assert ran == "exit status 0\nAPI_KEY\nHOME\nLANG\nPATH\nPWD\n/\n"


async def test_AG4_edited_project_files_gain_nothing(owner: Owner) -> None:
    """AG4: an agent gains nothing by writing files of its project."""
    await owner.store_secrets(API_KEY=CANARY)
    here, stolen = owner.here, owner.folder / "stolen"
    steal = f"#!/bin/sh\necho $API_KEY > {stolen}\n"
    for name in ("deploy.sh", "sh", "cat", "Makefile", "sealspace.py", "sitecustomize.py"):
        (here / name).write_text(steal)
        (here / name).chmod(0o755)
    (here / ".sealspace.toml").write_text('secrets = ["API_KEY"]\n')
    (here / ".sealspace").mkdir()
    (here / ".sealspace" / "agents.toml").write_text("[[commands]]")
    (owner.folder / "link").symlink_to(here)
    # Links in the project that lead out of it now: the agent can change them later.
    (here / "out").symlink_to("/usr/bin")
    (owner.folder / "through").symlink_to(here / "out")
    listed: list[dict[str, Any]] = [
        {"program": str(here / "deploy.sh")},
        {"program": f"{owner.folder}/link/deploy.sh"},
        {"program": "/bin/sh", "arguments": [str(here / "deploy.sh")]},
        {"program": "/bin/sh", "arguments": ["./deploy.sh"], "folder": str(here)},
        {"program": "/bin/sh", "arguments": ["here/deploy.sh"], "folder": str(owner.folder)},
        {"program": "/bin/echo", "arguments": [f"--file={here}/Makefile"]},
        {"program": "/bin/sh", "arguments": ["-c", f"cd {here}&&./deploy.sh"]},
        {"program": "/usr/bin/make", "arguments": [f"-C{owner.folder}/link", "deploy"]},
        {"program": "/usr/bin/curl", "arguments": ["-d", f"@{here}/Makefile"]},
        {"program": "/bin/echo", "arguments": ["harmless"], "folder": str(here)},
        {"program": str(here / "out" / "env")},
        {"program": "/bin/cat", "arguments": [f"{owner.folder}/through/env"]},
        {
            "program": "/bin/cat",
            "arguments": [f"{owner.folder}/../{owner.folder.name}/here/out/env"],
        },
        # Every user can write to these folders.
        {"program": "/bin/echo", "arguments": ["harmless"], "folder": "/tmp"},
        {"program": "/bin/sh", "arguments": ["/tmp/planted.sh"]},
    ]
    allow(owner, commands=[{**one, "secrets": ["API_KEY"]} for one in (*listed, LISTED)])
    person = Person([NO] * len(listed))
    for some in (listed[:4], listed[4:8], listed[8:12], listed[12:]):
        async with agent_of(owner, person) as agent:
            for one in some:
                told = await agent.call("run_command", wanted={**one, "secrets": ["API_KEY"]})
                assert "the person said no" in told
                assert "The agent can change files" in person.questions[-1]
            assert await agent.run_command(*SHOW) == "exit status 0\ngot ***\n"
    assert not stolen.exists()


async def test_AG4_files_relative_to_another_argument(owner: Owner, private_folder: Path) -> None:
    """AG4: the person is asked about a listed command that names the project relative to another
    argument."""
    await owner.store_secrets(API_KEY=CANARY)
    parent = str(private_folder)
    project, stolen = private_folder / "shop", owner.folder / "stolen"
    project.mkdir()
    (project / "x.sh").write_text(f"echo $API_KEY > {stolen}\n")
    (project / "Makefile").write_text(f"steal:\n\techo $(API_KEY) > {stolen}\n")
    (private_folder / "tools").mkdir()
    (private_folder / "tools" / "own.sh").write_text("echo got $API_KEY\n")
    attacks = [
        ["/usr/bin/make", "-C", parent, "-f", "shop/Makefile"],
        ["/usr/bin/env", f"--chdir={parent}", "sh", "shop/x.sh"],
        ["/usr/bin/env", "-C", f"{parent}/..", f"--chdir={private_folder.name}", "shop/x.sh"],
        ["/bin/sh", "-c", f"cd {parent} && . shop/x.sh"],
    ]
    fine = ["/usr/bin/env", f"--chdir={parent}/tools", "sh", "own.sh"]
    listed = [
        {"program": words[0], "arguments": words[1:], "secrets": ["API_KEY"]}
        for words in (*attacks, fine)
    ]
    allow(owner, commands=listed)
    person = Person([NO] * len(attacks))
    async with agent_of(owner, person, options=("--project", str(project))) as agent:
        for words in attacks:
            assert "the person said no" in await agent.run_command(*words)
            assert "The agent can change files" in person.questions[-1]
        assert await agent.run_command(*fine) == "exit status 0\ngot ***\n"
    assert not stolen.exists()


async def test_AG8_long_output_is_cut_after_masking(owner: Owner) -> None:
    """AG8: an answer is bounded; the command runs to its end. A value at the cut is not shown in
    part."""
    await owner.store_secrets(API_KEY=CANARY)
    made = owner.folder / "made"
    script = f"head -c 65530 /dev/zero | tr '\\0' x; head -c 999999 /dev/zero; touch {made}"
    script = script.replace("x; head", 'x; printf %s "$API_KEY"; head')
    async with agent_of(owner, Person([YES])) as agent:
        ran = await agent.run_command("/bin/sh", "-c", script)
    assert ran.endswith("x***\0\0\0\n(the rest is left out)") and len(ran) < 66_000
    assert made.exists()


async def test_AG8_a_missing_secret_or_program(owner: Owner) -> None:
    """AG8: the answer says what is missing, in the words of `sealspace run`."""
    await owner.store_secrets(API_KEY=CANARY)
    async with agent_of(owner, Person([YES] * 3)) as agent:
        assert "there is no secret GONE" in await agent.run_command("/bin/echo", secrets=["GONE"])
        assert "/bin/gone’: No such file" in await agent.run_command("/bin/gone")
        assert "No such file or directory: '/gone'" in await agent.run_command(
            "/bin/echo", folder="/gone"
        )


async def test_AG8_a_command_ends_with_the_connection(owner: Owner) -> None:
    """AG8: if the agent's host ends the connection, the running command is ended too, also if it
    ignores SIGTERM."""
    await owner.store_secrets(API_KEY=CANARY)
    made = owner.folder / "made"
    script = f"trap '' TERM; echo $$ > {made}.new; mv {made}.new {made}; exec sleep 600"
    async with agent_of(replace(owner, command=COMMAND), Person([YES])) as agent:
        running = asyncio.create_task(agent.run_command("/bin/sh", "-c", script))
        await asyncio.to_thread(until, made.exists)
        number = int(made.read_text())
        assert is_alive(number)
    await asyncio.wait([running])
    assert running.exception() is not None
    await asyncio.to_thread(until, lambda: not is_alive(number))


# --- requests -------------------------------------------------------------------------------------


async def _tell_the_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the secret of a header, in many forms, and with the request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    (secret,) = re.findall("authorization: Bearer (.*)\r", head, re.IGNORECASE)
    data = secret.encode()
    forms = (secret, base64.b64encode(data).decode(), data.hex(), data.hex().upper())
    lines = (*forms, quote(secret, safe=""), json.dumps(secret), head.splitlines()[0])
    body = "\n".join(lines).encode()
    writer.write(
        f"HTTP/1.1 200 OK\r\nX-Seen: {secret}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    writer.close()


async def test_AG6_a_listed_request(owner: Owner) -> None:
    """AG6, AG7: the secret arrives in the header; the answer is masked, with its headers."""
    await owner.store_secrets(API_KEY=CANARY)
    async with https_service(owner.folder, "api.test", talk=_tell_the_header) as service:
        host = f"api.test:{service.port}"
        rule = {"secret": "API_KEY", "host": host, "prefix": "Bearer "}
        allow(owner, f'loopback_ca = "{service.ca}"', requests=[rule])
        async with agent_of(owner) as agent:
            told = await agent.https_request(host, path="/items?page=2")
    head, _, body = told.partition("\n\n")
    assert re.fullmatch(r"status 200\nX-Seen: \*\*\*\nContent-Length: \d+", head)
    assert body.splitlines() == [*["***"] * 5, '"***"', "GET /items?page=2 HTTP/1.1"]


async def test_AG7_an_answer_that_breaks_off(owner: Owner) -> None:
    """AG7: the answer omits a beginning of a value at its end."""
    await owner.store_secrets(API_KEY=CANARY)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\n\r\nit is {CANARY[:-1]}".encode())
        writer.close()

    async with https_service(owner.folder, "api.test", talk=talk) as service:
        host = f"api.test:{service.port}"
        rule = {"secret": "API_KEY", "host": host, "prefix": "Bearer "}
        allow(owner, f'loopback_ca = "{service.ca}"', requests=[rule])
        async with agent_of(owner) as agent:
            assert await agent.https_request(host) == "status 200\n\nit is "


async def test_AG6_other_requests_are_asked(owner: Owner) -> None:
    """AG6: the person is asked about a request that differs from the listed ones, and sees all of
    it."""
    await owner.store_secrets(API_KEY=CANARY, OTHER=CANARY)
    async with https_service(owner.folder, "api.test") as service:
        host = f"api.test:{service.port}"
        rule = {"secret": "API_KEY", "host": host, "prefix": "Bearer "}
        allow(owner, f'loopback_ca = "{service.ca}"', requests=[rule])
        others: list[dict[str, str]] = [
            {"host": "api.test"},
            {"host": f"evil.test:{service.port}"},
            {"header": "X-Key"},
            {"prefix": ""},
            {"method": "POST", "body": "a\u202eb"},
            {"secret": "OTHER"},
            {"scope": "ci"},
        ]
        for some in (others[:4], others[4:]):
            person = Person([NO] * len(some))
            async with agent_of(owner, person) as agent:
                for other in some:
                    told = await agent.https_request(**{"host": host, **other})
                    assert "the person said no" in told
                    shown = json.loads(person.questions[-1].partition("\n")[2])
                    assert {name: shown[name] for name in other} == other
                    assert person.questions[-1].isascii()
        assert service.seen == []
        async with agent_of(owner, Person([YES])) as agent:
            told = await agent.https_request(host, method="POST", body="given", path="/echo")
        assert told.startswith("status 200\n") and told.endswith("\n\ngiven")
        (seen,) = service.seen
        assert seen.headers["Authorization"] == f"Bearer {CANARY}"
        assert seen.headers["Content-Type"] == "application/json"


async def test_AG6_redirects_long_answers_and_refusals(owner: Owner) -> None:
    """AG6, AG8: no redirect is followed, an answer is bounded, and a malformed request is not sent.
    No error contains the header."""
    await owner.store_secrets(
        API_KEY=CANARY, LINES=f"{CANARY}\nX: y", SHORT="abc", BYTES=b"\xff\xfe\xfd\xfc"
    )
    async with https_service(owner.folder, "api.test") as service:
        host = f"api.test:{service.port}"
        allow(
            owner,
            f'loopback_ca = "{service.ca}"',
            requests=[
                {"secret": name, "host": host, "prefix": "Bearer "}
                for name in ("API_KEY", "LINES", "SHORT", "GONE")
            ],
        )
        async with agent_of(owner) as agent:
            told = await agent.https_request(host, path="/redirect?to=https://evil.test/")
            assert told.startswith("status 302\n") and "Location: https://evil.test/" in told
            told = await agent.https_request(host, path="/large?size=900000")
            assert told.endswith("(the rest is left out)") and len(told) < 66_000
            sent = len(service.seen)
            assert "request-invalid" in await agent.https_request(host, secret="LINES")
            assert "too short to be masked" in await agent.https_request(host, secret="SHORT")
            assert "there is no secret GONE" in await agent.https_request(host, secret="GONE")
            assert "request-invalid" in await agent.https_request(host, path="/a b")
            assert len(service.seen) == sent == 2


async def test_AG6_only_public_addresses(owner: Owner) -> None:
    """AG6: a request to this machine or its network is refused, however it is spelled."""
    await owner.store_secrets(API_KEY=CANARY)
    hosts = ("localhost", "127.0.0.1", "[::1]", "2130706433", "a@b", "A.TEST")
    rules = [{"secret": "API_KEY", "host": host, "prefix": "Bearer "} for host in hosts]
    allow(owner, requests=rules)
    async with agent_of(owner) as agent:
        for host in hosts:
            told = await agent.https_request(host)
            assert re.search("(address|host)-refused|name-unknown|request-invalid", told), told


def test_AG6_a_path_changes_no_port() -> None:
    """AG6: a path begins with a slash, so it cannot continue the host or change its port."""
    for path in (":8443/", "@evil.test/", ".evil.test/", ""):
        with pytest.raises(ValidationError):
            FullRequest(secret="API_KEY", host="api.test", path=path)


# --- the file of rules ----------------------------------------------------------------------------


async def refused(owner: Owner, *arguments: str, **variables: Any) -> str:
    """Start a server that refuses to start, and return its error."""
    ran = await owner.run(*arguments, "mcp", **variables)
    assert (ran.returncode, ran.stdout) != (0, b"")
    return ran.stderr.decode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ask = true\n[[commands]\n", "line 2"),
        ("aks = false", "aks: Extra inputs are not permitted"),
        ('[[commands]]\nprogram = "sh"\nsecrets = ["A"]', "commands.0.program"),
        ('[[requests]]\nsecret = "A"', "requests.0.host: Field required"),
        ("# " + "x" * 17_000, "longer than"),
        ("a = " + "[" * 9000, "cannot use"),
    ],
)
def test_AG1_a_malformed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    """AG1: a malformed file of rules is refused, and the error names the place."""
    monkeypatch.setenv("SEALSPACE_HOME", str(tmp_path))
    (tmp_path / "agents.toml").write_text(text)
    (tmp_path / "agents.toml").chmod(0o600)
    with pytest.raises(InvalidInput) as raised:
        read_rules()
    assert reason in str(raised.value)


async def test_AG1_a_file_that_becomes_malformed(owner: Owner) -> None:
    """AG1: with a malformed file the server does not start. If the file becomes malformed later,
    everything is refused."""
    allow(owner, commands=[LISTED])
    async with agent_of(owner, Person()) as agent:
        allow(owner, "ask = true", "[[commands]")
        assert "line 2" in await agent.run_command(*SHOW)
    assert "line 2" in await refused(owner)


def test_AG6_an_authority_in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AG6: the server refuses an authority file that the agent can replace."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("SEALSPACE_HOME", str(home))
    monkeypatch.chdir(here)
    (home / "link").symlink_to(here)
    rules = home / "agents.toml"
    for place in ("ca.pem", f"{here}/ca.pem", f"{home}/link/ca.pem", f"{home}/ca.pem"):
        rules.write_text(f'loopback_ca = "{place}"')
        rules.chmod(0o600)
        if place == f"{home}/ca.pem":
            assert read_rules().loopback_ca == home / "ca.pem"
        else:
            with pytest.raises(InvalidInput, match="loopback_ca is in the project"):
                read_rules()


def test_AG1_only_the_owner_writes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AG1: a file that other users can write to, or that is a link, is refused."""
    monkeypatch.setenv("SEALSPACE_HOME", str(tmp_path))
    rules = tmp_path / "agents.toml"
    rules.touch()
    rules.chmod(0o620)
    with pytest.raises(InvalidInput, match="other users can write to the file"):
        read_rules()
    rules.unlink()
    rules.symlink_to("/dev/null")
    with pytest.raises(InvalidInput, match="cannot use"):
        read_rules()


async def test_AG1_the_file_is_out_of_the_agent_s_reach(owner: Owner) -> None:
    """AG1: the server does not start if the agent could change the owner's folder, the home or the
    installation, or if variables or relative paths choose the folder."""
    home = str(owner.folder / "home" / ".sealspace")
    assert "SEALSPACE_HOME" in await refused(owner, SEALSPACE_HOME=home)
    (owner.here / "home").symlink_to(owner.folder / "home")
    reason = "where the agent can change it"
    assert reason in await refused(owner, "--home", "home/.sealspace")
    assert reason in await refused(owner, "--home", str(owner.here / "tricked"))
    assert reason in await refused(owner, HOME=str(owner.here))
    for place in (owner.folder, REPOSITORY):
        ran = await owner.run("mcp", "--project", str(place))
        assert reason in ran.stderr.decode(), place
