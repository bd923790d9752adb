"""Tests of `sealspace run` and `sealspace template` with secrets of a real node.

`run` is a process of its own here, for it changes what it runs in; `template` is one where its
streams are the subject.
"""

import asyncio
import os
import signal
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from owner_desk import Ran
from owner_machine import LIMIT_S, Owner, new_machine
from person import Person
from running_node import COMMAND, is_alive, until

CANARY = "canary-7f3a91d4e2-of-the-owner"


@pytest.fixture
def owner(forking_owner: Owner) -> Owner:
    """The owner of most tests, whose commands run in forks."""
    return forking_owner


def said(ran: "subprocess.CompletedProcess[bytes]") -> tuple[str, str]:
    """Return the two lines of an error: what happened, and what to do next."""
    first, second = ran.stderr.decode().splitlines()
    return first.removeprefix("sealspace: "), second.removeprefix("next: ")


# --- run ------------------------------------------------------------------------------------------


async def test_secrets_are_variables_and_masked(owner: Owner) -> None:
    """The command gets all secrets of the owner as variables, and its output shows none of their
    values."""
    await owner.store_secrets(API_KEY=CANARY, OTHER_TOKEN="4711", SHORT_KEY="x")
    script = (
        'echo "$API_KEY $OTHER_TOKEN $SHORT_KEY $KEPT"; test "$API_KEY" = ' + CANARY + " && exit 42"
    )
    ran = await owner.run("run", "--", "sh", "-c", script, KEPT="kept")
    assert ran.stdout == b"*** *** x kept\n"
    assert ran.returncode == 42
    assert ran.stderr == (
        b"warning: SHORT_KEY is too short to be masked: if the command prints the value, the output"
        b" shows it\n"
    )


async def test_a_secret_of_bytes_is_handed_over_in_base64(owner: Owner) -> None:
    """Binary secrets are passed as clients of other languages do, and are masked in both forms."""
    value = bytes(range(128, 160))
    await owner.store_secrets(A_KEY=value)
    script = 'echo "$A_KEY"; printf %s "$A_KEY" | base64 -d; test ${#A_KEY} = 44'
    ran = await owner.run("run", "--", "sh", "-c", script)
    assert ran.stdout == b"***\n***"
    assert ran.returncode == 0


@pytest.mark.slow
async def test_only_and_scope(owner: Owner) -> None:
    """`--only` and `--scope` select secrets; a missing one is reported and the command is not
    started."""
    await owner.store_secrets(A_KEY="first of all", B_KEY="second of all")
    await owner.store_secrets("ci", A_KEY="scoped to it", C_KEY="third of it")
    names = ("sh", "-c", "env | grep -o '^[ABC]_KEY=' | sort | tr -d '\\n'")
    assert (await owner.run("run", *names)).stdout == b"A_KEY=B_KEY="
    assert (await owner.run("run", "--only", "B_KEY", "--", *names)).stdout == b"B_KEY="
    assert (await owner.run("run", "--scope", "ci", "--", *names)).stdout == b"A_KEY=C_KEY="
    ran = await owner.run("run", "--only", "A_KEY,GONE", "--", "touch", "started")
    assert (ran.returncode, said(ran)[0]) == (21, "there is no secret GONE")
    ran = await owner.run("run", "--only", "lower", "--", "touch", "started")
    assert ran.returncode == 2
    assert "lower" in said(ran)[0]
    assert list(owner.here.iterdir()) == []


async def test_no_secret_to_hand_over(owner: Owner) -> None:
    """Without secrets in the scope the command is not started, unless `--allow-empty` is given."""
    await owner.store_secrets(API_KEY=CANARY)
    ran = await owner.run("run", "--scope", "prd", "--", "echo", "started")
    assert (ran.returncode, ran.stdout) == (21, b"")
    happened, following = said(ran)
    assert happened.startswith("there are no secrets to pass in the scope prd")
    assert following.startswith("no scope has secrets") and following.endswith("--allow-empty")
    await owner.store_secrets("prod", API_KEY=CANARY)
    await owner.store_secrets("ci", API_KEY=CANARY)
    meant = "did you mean --scope prod? the scopes with secrets are ci, prod; "
    ran = await owner.run("run", "--scope", "prd", "--", "echo", "started")
    assert (ran.returncode, said(ran)[1]) == (21, f"{meant}or add --allow-empty")
    ran = await owner.run("run", "--scope", "prd", "--only", "API_KEY", "--", "echo", "started")
    assert (ran.returncode, said(ran)[0]) == (21, "there is no secret API_KEY in the scope prd")
    assert said(ran)[1].startswith(meant)
    ran = await owner.run("run", "--scope", "prd", "--allow-empty", "--", "echo", "started")
    assert ran.returncode == 0
    assert ran.stdout == b"started\n"
    assert ran.stderr == b""


async def test_credentials_are_not_handed_over(owner: Owner) -> None:
    """The command gets neither our own variables nor open files with the session."""
    await owner.store_secrets(API_KEY=CANARY)
    ours: dict[str, Any] = {
        "SEALSPACE_ADMIN__SECRET": "operator",
        "SEALSPACE_HOME": str(owner.folder / "home" / ".sealspace"),
    }
    ran = await owner.run("run", "--", "sh", "-c", "env; ls -l /proc/self/fd", **ours)
    assert ran.returncode == 0
    assert b"API_KEY=***" in ran.stdout
    assert (
        b"SEALSPACE" not in ran.stdout
        and b".sealspace" not in ran.stdout
        and b"socket" not in ran.stdout
    )


@pytest.mark.slow
async def test_a_command_that_cannot_be_started(owner: Owner) -> None:
    """A missing command gives 127 and one that is not executable 126, as in shells, with a next
    step."""
    await owner.store_secrets(API_KEY=CANARY)
    (owner.here / "text").write_text("no program")
    of_another = owner.folder / "of-another"
    of_another.mkdir(mode=0)
    path = f"{of_another}:{os.environ['PATH']}"
    for mode in ((), ("--no-masking",)):
        missing = await owner.run("run", *mode, "--", "absent-command", PATH=path)
        assert (missing.returncode, said(missing)[0]) == (127, "command not found: absent-command")
        refused = await owner.run("run", *mode, "--", "./text")
        assert (refused.returncode, said(refused)[0]) == (
            126,
            "cannot run ./text: permission denied",
        )


SECRETS = (
    "A_KEY",
    "A_KEY_ID",
    "A_TOKEN",
    "A_SECRET",
    "A_PASS",
    "A_PASSWORD",
    "A_PASSPHRASE",
    "PGPASSWORD",
    "A_DSN",
    "A_CREDENTIALS",
    "GIT_TOKEN",
    "DATABASE_URL",
    "REDIS_URL",
)
OTHERS = (
    "TAR_OPTIONS",
    "PS0",
    "PS9",
    "CFLAGS",
    "RSYNC_RSH",
    "KEY",
    "A_KEY_",
    "X_REDIS_URL",
    "SSH_ASKPASS",
    "DBI_DSN",
)


async def test_CL1_only_names_of_secrets_are_handed_over_unasked(owner: Owner) -> None:
    """CL1: without `--only`, only secrets with names like API_KEY are passed; the others are
    listed."""
    await owner.store_secrets(**dict.fromkeys((*SECRETS, *OTHERS), CANARY))
    ran = await owner.run("run", "--", "env")
    assert sorted(SECRETS) == sorted(
        line[:-4] for line in ran.stdout.decode().split("\n") if line.endswith("=***")
    )
    listed = ", ".join(sorted(OTHERS))
    assert ran.stderr.decode() == (
        f"secrets not passed ({len(OTHERS)}): {listed}; by default, only names like"
        " API_KEY are passed; to choose: --only A,B or --all\n"
    )
    asked = await owner.run(
        "run", "--only", "PS9,X_REDIS_URL", "--", "sh", "-c", 'echo "$PS9 $X_REDIS_URL$A_KEY"'
    )
    assert asked.stdout == b"*** ***\n"
    assert asked.stderr == b""


async def test_CL1_the_list_of_others_is_short(owner: Owner) -> None:
    """CL1: one line of bounded length lists the others; where there are no other secrets, nothing
    is started."""
    await owner.store_secrets(**{f"OTHER_{number}": CANARY for number in range(60)})
    ran = await owner.run("run", "--", "touch", "started")
    listed, happened, _ = ran.stderr.decode().splitlines()
    assert ran.returncode == 21
    assert len(listed) < 400
    assert listed.startswith("secrets not passed (60): OTHER_0, OTHER_1, ")
    assert "there are no secrets to pass" in happened and not list(owner.here.iterdir())


async def test_values_that_no_variable_holds(owner: Owner) -> None:
    """A value with a zero byte, or too long for the kernel, is refused and not passed in part."""
    for value, what in (("a\0b", "zero byte"), ("x" * 131_072, "too long")):
        await owner.store_secrets(API_KEY=value)
        ran = await owner.run("run", "--", "touch", "started")
        assert ran.returncode == 2
        assert what in said(ran)[0]
        assert not (owner.here / "started").exists()
    await owner.store_secrets(API_KEY="x" * (131_071 - len("API_KEY=")))
    assert (await owner.run("run", "--", "true")).returncode == 0


async def test_without_masking(owner: Owner) -> None:
    """`--no-masking` replaces the process by the command, with the same streams and no masking."""
    await owner.store_secrets(API_KEY=CANARY)
    with replace(owner, command=COMMAND).start(
        "run", "--no-masking", "--", "sh", "-c", 'echo "$$ $API_KEY"; exit 42'
    ) as process:
        out, err = await asyncio.to_thread(process.communicate, timeout=LIMIT_S)
    assert out == f"{process.pid} {CANARY}\n".encode()
    assert err == b""
    assert process.returncode == 42


async def test_a_terminal_is_told_of_the_other_way(owner: Owner) -> None:
    """At a terminal one line names `--no-masking`, which gives the command the terminal itself."""
    await owner.store_secrets(API_KEY=CANARY)

    script = ("sh", "-c", 'test -t 1 && echo "terminal $API_KEY" || echo "pipe $API_KEY"')

    def seen(*options: str) -> bytes:
        command = (*COMMAND, "run", *options, "--", *script)
        with Person(command, environment=owner.environment, folder=owner.here) as person:
            assert person.end() == 0
        return person.seen

    masked, plain = await asyncio.to_thread(seen), await asyncio.to_thread(seen, "--no-masking")
    assert masked.count(b"without masking, add --no-masking\r\n") == 1
    assert masked.endswith(b"pipe ***\r\n")
    assert plain == f"terminal {CANARY}\r\n".encode()


async def test_nothing_is_left_on_disk(owner: Owner) -> None:
    """No file and no argument contains the value, while the command runs and after its parent is
    killed."""
    await owner.store_secrets(API_KEY=CANARY)
    with replace(owner, command=COMMAND).start(
        "run", "--", "sh", "-c", "echo $$; echo it is $API_KEY; exec sleep 300"
    ) as process:
        assert process.stdout is not None
        child = int(await asyncio.to_thread(process.stdout.readline))
        assert await asyncio.to_thread(process.stdout.readline) == b"it is ***\n"
        assert owner.files_with(CANARY) == []
        environment = Path(f"/proc/{child}/environ")
        # It reads as empty for a moment while the shell becomes `sleep`.
        await asyncio.to_thread(until, lambda: CANARY.encode() in environment.read_bytes())
        for pid in (process.pid, child):
            assert CANARY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait, LIMIT_S)
        await asyncio.to_thread(until, lambda: not is_alive(child))
    assert owner.files_with(CANARY) == []
    planted = owner.here / "planted"
    planted.write_text(f"it is {CANARY}")
    assert owner.files_with(CANARY) == [planted]  # the search finds what it looks for


async def test_nobody_is_logged_in(tmp_path: Path) -> None:
    """Without a login nothing is started."""
    stranger = new_machine(tmp_path / "stranger")
    ran = await stranger.run("run", "--", "touch", "started")
    assert (ran.returncode, list(stranger.here.iterdir())) == (10, [])
    assert "login URL --new" in said(ran)[1]


# --- template -------------------------------------------------------------------------------------

TEMPLATE = (
    b'a: {{ secret "API_KEY" }}\nb: {{secret "B"}}{{ secret "API_KEY" }}\nc: {{ .Values.c }} {{'
    b" secrets.x }} \xff {{ secrets | length }} {{ secret.x }} {{ secretName }}"
    b" {{ secrets['x'] }}\n"
)
FILLED = (
    f"a: {CANARY}\nb: $1 \\g<1> é{CANARY}\nc: {{{{ .Values.c }}}} {{{{ secrets.x }}}} ".encode()
    + b"\xff {{ secrets | length }} {{ secret.x }} {{ secretName }} {{ secrets['x'] }}\n"
)


async def test_a_template_is_filled(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each placeholder is replaced, all other bytes stay, and only the owner can read the file."""
    await owner.store_secrets(API_KEY=CANARY, B="$1 \\g<1> é")
    (owner.here / "app.tmpl").write_bytes(TEMPLATE)
    monkeypatch.chdir(owner.here)
    assert await owner.desk.read("template", "app.tmpl") == FILLED
    assert (await owner.run("template", "-", given=TEMPLATE)).stdout == FILLED
    target = owner.here / "app.yaml"
    target.write_text("former")
    target.chmod(0o644)
    assert await owner.desk.run("template", "app.tmpl", "--out", "app.yaml") == Ran(
        0, "", "wrote app.yaml with 2 secrets\n"
    )
    assert target.read_bytes() == FILLED
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in owner.here.iterdir()) == ["app.tmpl", "app.yaml"]


async def test_a_template_is_not_its_own_output(owner: Owner, tmp_path: Path) -> None:
    """A template is not replaced by its output, by whatever path --out names it."""
    await owner.store_secrets(API_KEY=CANARY)
    template, link = tmp_path / "app.yaml", tmp_path / "link.yaml"
    template.write_text('{{ secret "API_KEY" }}')
    link.symlink_to(template)
    for target in (template, link, tmp_path / "." / "app.yaml"):
        ran = await owner.desk.run("template", str(template), "--out", str(target))
        assert (ran.status, ran.happened) == (
            2,
            f"{target} is the template itself, which would be lost",
        )
    assert template.read_text() == '{{ secret "API_KEY" }}'
    ran = await owner.desk.run("template", str(template), "--out", str(tmp_path / "out"))
    assert ran.err == f"wrote {tmp_path / 'out'} with 1 secret\n"


async def test_a_template_without_a_placeholder(owner: Owner) -> None:
    """A text without a placeholder is printed as it is, and a message names the form."""
    ran = await owner.desk.run("template", "-", given=b"a: {{ API_KEY }}\n")
    assert (ran.status, ran.out) == (0, "a: {{ API_KEY }}\n")
    assert ran.err == '- contains no placeholder; the form is {{ secret "NAME" }}\n'


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe"])
async def test_what_is_no_file_is_not_replaced(owner: Owner, tmp_path: Path, kind: str) -> None:
    """A template is not written over /dev/stdout or /dev/null, which a superuser could replace for
    all users."""
    target, pipe = tmp_path / "out", tmp_path / "pipe"
    os.mkfifo(pipe)
    target = pipe if kind == "pipe" else target
    if kind != "pipe":
        target.symlink_to(pipe)
    for command in (("template", "-"), ("secret", "export", "--yes")):
        ran = await owner.desk.run(*command, "--out", str(target), given=b"no place")
        assert ran.status == 1, ran
        assert "not a regular file" in ran.err
    assert stat.S_ISFIFO(pipe.stat().st_mode) and (
        target.is_symlink() == (kind == "link to a pipe")
    )


async def test_a_template_with_a_missing_secret(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing secret is reported, and no file is written or changed."""
    await owner.store_secrets(API_KEY=CANARY)
    target = owner.here / "app.yaml"
    target.write_text("former")
    monkeypatch.chdir(owner.here)
    for option in ((), ("--out", "app.yaml")):
        ran = await owner.desk.run("template", "-", *option, given=TEMPLATE)
        assert ran.status == 21
        assert ran.out == ""
        assert ran.happened == "-: line 2: there is no secret B"
    assert target.read_text() == "former"
    assert [path.name for path in owner.here.iterdir()] == ["app.yaml"]


@pytest.mark.parametrize(
    "place",
    [
        b'{{ secret "API_KEY" }',
        b"{{ secret API_KEY }}",
        b"{{ secret 'API_KEY' }}",
        b'{{- secret "A" -}}',
        b'{{secret "a"}}',
        b'{{ secret "" }}',
        b'{{ secrets "API_KEY" }}',
        b'{{ secrets: "API_KEY" }}',
        b'{{ Secret "API_KEY" }}',
        b'{{secret("API_KEY")}}',
        b'{{ secret: "API_KEY" }}',
        b'{{ secret = "API_KEY" }}',
        b'{{~ secret "API_KEY" }}',
        "{{ secret “API_KEY” }}".encode(),
        b"{{ secret }}",
    ],
)
async def test_a_broken_place(owner: Owner, place: bytes) -> None:
    """A malformed placeholder is refused with its line, and is not copied to the output."""
    ran = await owner.desk.run("template", "-", given=b"one\ntwo " + place + b"\n")
    assert ran.status == 2
    assert ran.out == ""
    assert ran.happened[:11] == "-: line 2: "
    is_unquoted = "API_KEY }}" in place.decode() or "'" in place.decode()
    assert ("the name must be in double quotes" in ran.happened) == is_unquoted
    assert '{{ secret "NAME" }}' in ran.next
