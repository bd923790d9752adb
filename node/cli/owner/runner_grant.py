"""`sealspace runner grant`: secrets for named programs and callers, at exactly the runner that was seen."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from capabilities.errors import InvalidJson
from capabilities.strict_json import parse_json
from sealspace.backend_words import as_json, in_plain_words
from sealspace.backends import (
    EvidenceVerifier,
    Leniency,
    Pin,
    policy_for,
    require_address,
    require_expected,
    require_like,
)
from sealspace.call_conditions import (
    AllowAll,
    Condition,
    Owner,
    parse_condition,
)
from sealspace.client import Client
from sealspace.errors import InvalidInput
from sealspace.programs import read_active
from sealspace.project_names import checked_sha256
from sealspace.run_grants import (
    MOST,
    ByHash,
    ByProject,
    GrantLimits,
    ProgramRule,
    RunStatement,
    checked_host,
    run_statement_json,
)
from tee_backend.runner.environment import is_reserved

from ...errors import NotThere
from ..shared import shared
from ..terminal import print_json, print_lines, time_text, words
from .backend_grant import confirm_seen, deliver, is_known, label_parts, require_stored
from .backend_show import Approved, approved_in, inspector_for, look, looking_options
from .durations import ttl_s_of
from .owner_profile import KeptGrant, OwnerHome, owner_home
from .project import project_of, reader
from .runner_list import run_words

_MAX_CONDITION_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameters:
    """The parameters of the owner's command; `programs` as they were written."""

    url: str
    secrets: tuple[str, ...]
    programs: tuple[str, ...]
    follows: bool
    callers: Condition
    hosts: tuple[str, ...]
    limits: GrantLimits
    expect: tuple[str, ...]
    approved: Approved | None
    accept: tuple[Leniency, ...]
    pin: Pin
    ttl_s: float
    is_sure: bool


@click.command(
    "grant",
    epilog="Example: `sealspace runner grant https://runner.example --secret API_KEY --program did:key:z6Mk…/digest` "
    "shows what runs there and what is granted, and asks. It does not ask where `--like` or `--expect` name all the "
    "code, as in `sealspace backend grant`.",
)
@click.argument("url")
@click.option(
    "--secret", "secrets", metavar="NAME", multiple=True, required=True, help="NAME or SCOPE/NAME; repeatable."
)
@click.option(
    "--program",
    "programs",
    metavar="SHA256|DID/NAME",
    multiple=True,
    required=True,
    help="The program that gets them: by its hash, or the version of a project that is active now; repeatable.",
)
@click.option(
    "--follow", "follows", is_flag=True, help="Whatever version of the project is active: its developer decides."
)
@click.option("--caller", "callers", metavar="DID", multiple=True, help="Who may call, and nobody else; repeatable.")
@click.option("--anybody", is_flag=True, help="Anybody may call.")
@click.option("--owner", "is_owner", is_flag=True, help="You alone may call; the default.")
@click.option(
    "--condition",
    "condition_file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A condition on callers, as JSON.",
)
@click.option(
    "--host", "hosts", metavar="HOST", multiple=True, help="Where the program may send anything; none by default."
)
@click.option("--max-instructions", type=click.IntRange(1, MOST["maxInstructions"]), help="Of a run.")
@click.option("--max-memory-mb", type=click.IntRange(1, MOST["maxMemoryMb"]), help="Of a run.")
@click.option("--max-execution-s", type=click.IntRange(1, MOST["maxExecutionSeconds"]), help="Of a run.")
@click.option(
    "--expires", metavar="TIME", default="7d", show_default=True, help="How long the grant lasts: 30m, 12h, 90d."
)
@click.option("--yes", is_flag=True, help="Do not ask; what was seen is granted to, whatever it is.")
@looking_options
def grant(
    url: str,
    secrets: tuple[str, ...],
    programs: tuple[str, ...],
    follows: bool,
    callers: tuple[str, ...],
    anybody: bool,
    is_owner: bool,
    condition_file: Path | None,
    hosts: tuple[str, ...],
    max_instructions: int | None,
    max_memory_mb: int | None,
    max_execution_s: int | None,
    expires: str,
    yes: bool,
    expect: tuple[str, ...],
    like: Path | None,
    accept: tuple[Leniency, ...],
    pin: Pin,
    trust_root: Path | None,
    collateral: Path | None,
) -> None:
    """Look at the runner at URL, and grant secrets to exactly that code, for named programs and callers alone.

    The node holds the runner to its code. That only these programs run with the secrets, and only for these callers,
    that code sees to. The wallet signs the grant, and the runner receives it.
    """
    require_address(url)
    if sum((bool(callers), anybody, is_owner, condition_file is not None)) > 1:
        raise click.UsageError("--caller, --anybody, --owner and --condition contradict each other")
    asked = _Parameters(
        url=url,
        secrets=secrets,
        programs=programs,
        follows=follows,
        callers=_condition(callers, condition_file, anybody=anybody),
        hosts=tuple(map(checked_host, hosts)),
        limits=GrantLimits(
            max_instructions=max_instructions, max_memory_mb=max_memory_mb, max_execution_s=max_execution_s
        ),
        expect=expect,
        approved=None if like is None else approved_in(like),
        accept=accept,
        pin=pin,
        ttl_s=ttl_s_of(expires),
        is_sure=yes,
    )
    for label in secrets:
        if is_reserved(label.rpartition("/")[2]):
            raise InvalidInput(f"{label} is a name of the runner's own", hint="store the secret under another name")
    place = owner_home()
    place.profile()  # an owner who is not logged in need not wait for a quote
    inspector = inspector_for(place, trust_root=trust_root, collateral=collateral)
    asyncio.run(_grant(place, asked, inspector, json=shared().as_json))


async def _grant(home: OwnerHome, asked: _Parameters, inspector: EvidenceVerifier, *, json: bool) -> None:
    async with home.client() as client:
        run = RunStatement(
            programs=tuple([await _program(client, home, one, follows=asked.follows) for one in asked.programs]),
            callers=asked.callers,
            hosts=asked.hosts,
            limits=asked.limits,
        )
        seen = await look(asked.url, inspector)
        require_expected(seen, asked.expect)
        approved = None if asked.approved is None else asked.approved.policy
        if approved is not None:
            require_like(seen, approved)
        await require_stored(client, asked.secrets)
        await client.backends.require_judgeable(seen)  # nobody is asked about a grant that would open nothing
        scoped = [(name, scope) for scope, name in map(label_parts, asked.secrets)]
        paths = [client.secrets().resource(name, scope=scope) for name, scope in scoped]
        policy = policy_for(seen, paths=paths, accept=asked.accept, pin=asked.pin, ttl_s=asked.ttl_s)
        print_lines(*in_plain_words(seen, policy), *run_words(run), err=json)
        if not (asked.is_sure or is_known(seen, asked.expect, approved)):
            confirm_seen()
        portable = await client.runners.grant(
            seen, asked.secrets, run, ttl_s=asked.ttl_s, accept=asked.accept, pin=asked.pin, wallet=home.wallet()
        )
        kept = KeptGrant(url=asked.url, portable=portable)
        path = home.keep_grant(kept)
        words(f"granted: {portable.cid}")
        await deliver(asked.url, kept, path, noun="runner")
        if json:
            ends = None if portable.expires_at is None else time_text(portable.expires_at)
            shown = {"granted": portable.cid, "file": str(path), "expiresAt": ends, "run": run_statement_json(run)}
            print_json({**shown, "seen": as_json(seen, policy)})


async def _program(client: Client, home: OwnerHome, text: str, *, follows: bool) -> ProgramRule:
    """Return the rule for a program: its hash, unless the owner wants to follow its developer."""
    if "/" not in text and len(text) == 64:
        if follows:
            raise InvalidInput("a hash is one version; --follow is about a project", hint="name DID/NAME")
        return ByHash(checked_sha256(text, what="--program"))
    project = project_of(text, home)
    active = await read_active(reader(client, project), project)
    if active is None:
        raise NotThere(f"no version of {project.text} is active", hint=f"sealspace project show {project.text}")
    if follows:
        return ByProject(project)
    words(f"{project.text} is {active.sha256} now; a later version needs a new grant")
    return ByHash(active.sha256)


def _condition(callers: tuple[str, ...], file: Path | None, *, anybody: bool) -> Condition:
    if anybody:
        return AllowAll()
    if callers:
        return parse_condition({"Whitelist": {"accounts": list(callers)}})
    if file is None:
        return Owner()
    with file.open("rb") as stream:
        data = stream.read(_MAX_CONDITION_FILE_BYTES + 1)
    try:  # the reader takes objects alone, and a condition may be a text
        value = parse_json(b'{"condition":' + data[:_MAX_CONDITION_FILE_BYTES] + b"}", max_bytes=len(data) + 14)
    except InvalidJson:
        raise InvalidInput(f"{file} holds no condition", hint='{"Whitelist": {"accounts": ["did:key:…"]}}') from None
    if value.keys() != {"condition"}:
        raise InvalidInput(f"{file} holds no condition", hint='{"Whitelist": {"accounts": ["did:key:…"]}}')
    return parse_condition(value["condition"])
