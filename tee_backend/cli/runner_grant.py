"""Grants to exactly the runner that was seen: secrets for named programs, a private project, secrets that it makes."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from capabilities.errors import InvalidJson
from capabilities.strict_json import parse_json
from encryption_network.policy import Policy
from sealspace.apps.backends import Seen, require_like
from sealspace.apps.descriptions import as_json, in_plain_words, run_words
from sealspace.apps.programs import read_active
from sealspace.apps.runners import network_name, start_of
from sealspace.cli.durations import expires_option
from sealspace.cli.errors import AlreadyThere, NotThere, RunFailed
from sealspace.cli.node_terms import gathering
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.paths import FILE, read_named
from sealspace.cli.secret import scope_option
from sealspace.cli.terminal import print_found, words
from sealspace.client import Client
from sealspace.documents.call_conditions import AllowAll, Condition, Owner, parse_condition
from sealspace.documents.project_names import checked_project_name, checked_sha256
from sealspace.documents.run_grants import (
    MOST,
    ByHash,
    ByProject,
    GrantLimits,
    ProgramRule,
    RunStatement,
    checked_host,
    generation_body,
    run_statement_json,
)
from sealspace.errors import BackendError, InvalidInput, StatementInvalid
from sealspace.secrets import parse_secret_label

from ..runner.calls.generated_secrets import verify_generated
from ..runner.calls.run_receipts import VerifiedRun
from ..runner.guest.environment import is_reserved
from .backend import (
    Looking,
    deliver,
    looking_options,
    require_stored,
    seen_at_start,
    yes_option,
)
from .project import project_of, reader

_MAX_CONDITION_FILE_BYTES: Final = 64 * 1024


def _condition(callers: tuple[str, ...], anybody: bool, is_owner: bool, file: Path | None) -> Condition:
    """Return who may call, by options of which one may be given."""
    if sum((bool(callers), anybody, is_owner, file is not None)) > 1:
        raise click.UsageError("--caller, --anybody, --owner and --condition contradict each other")
    if anybody:
        return AllowAll()
    if callers:
        return parse_condition({"Whitelist": {"accounts": list(callers)}})
    if file is None:
        return Owner()
    data = read_named(file, most_bytes=_MAX_CONDITION_FILE_BYTES)
    with suppress(InvalidJson):  # the reader takes objects alone, and a condition may be a text
        value = parse_json(b'{"condition":' + data + b"}", max_bytes=_MAX_CONDITION_FILE_BYTES)
        if value.keys() == {"condition"}:
            return parse_condition(value["condition"])
    raise InvalidInput(f"{file} holds no condition", hint='{"Whitelist": {"accounts": ["did:key:…"]}}')


@click.command(
    "grant",
    epilog="Example: `sealspace runner grant https://runner.example --secret API_KEY --program did:key:z6Mk…/digest` "
    "shows what runs there and what is granted, and asks. It does not ask where `--like` or `--expect` name all the "
    "code, as in `sealspace backend grant`.",
)
@click.option(
    "--secret", "secrets", metavar="NAME", multiple=True, required=True, help="NAME or SCOPE/NAME; repeatable."
)
@click.option(
    "--program",
    "programs",
    metavar="SHA256|DID/NAME",
    multiple=True,
    required=True,
    help="The program that gets them: the active version of a project, whose manifest then counts, or a hash, which "
    "has no manifest and sends nothing; repeatable.",
)
@click.option(
    "--follow", "follows", is_flag=True, help="Whatever version of the project is active: its developer decides."
)
@gathering(
    "condition",
    _condition,
    click.option(
        "--caller", "callers", metavar="DID", multiple=True, help="Who may call, and nobody else; repeatable."
    ),
    click.option("--anybody", is_flag=True, help="Anybody may call."),
    click.option("--owner", "is_owner", is_flag=True, help="You alone may call; the default."),
    click.option("--condition", "file", type=FILE, help="A condition on callers, as JSON."),
)
@click.option(
    "--host", "hosts", metavar="HOST", multiple=True, help="Where the program may send anything; none by default."
)
@gathering(
    "limits",
    GrantLimits,
    click.option("--max-instructions", type=click.IntRange(1, MOST["maxInstructions"]), help="Of a run."),
    click.option("--max-memory-mb", type=click.IntRange(1, MOST["maxMemoryMb"]), help="Of a run."),
    click.option("--max-execution-s", type=click.IntRange(1, MOST["maxExecutionSeconds"]), help="Of a run."),
)
@expires_option
@yes_option
@looking_options
@at_node
async def grant(
    client: Client,
    url: str,
    looking: Looking,
    secrets: tuple[str, ...],
    programs: tuple[str, ...],
    follows: bool,
    condition: Condition,
    hosts: tuple[str, ...],
    limits: GrantLimits,
    ttl_s: float,
) -> None:
    """Look at the runner at URL, and grant secrets to exactly that code, for named programs and callers alone.

    The node holds the runner to its code. That only these programs run with the secrets, and only for these callers,
    that code sees to. The wallet signs the grant, and the runner receives it.
    """
    named = [parse_secret_label(label) for label in secrets]
    for secret in named:
        if is_reserved(secret.name):
            raise InvalidInput(
                f"{secret.label} is a name of the runner's own", hint="store the secret under another name"
            )
    network_name(named)  # those of two networks are no one grant
    run = RunStatement(
        callers=condition,
        hosts=tuple(map(checked_host, hosts)),
        limits=limits,
        programs=tuple([await _program(client, one, follows=follows) for one in programs]),
    )
    seen = await looking.look(url)
    await require_stored(client, secrets)
    await client.backends.require_judgeable(seen)  # nobody is asked about a grant that would open nothing
    paths = [client.secrets().resource(secret.name, scope=secret.scope) for secret in named]
    policy = looking.policy(seen, paths, ttl_s=ttl_s)
    looking.confirm(seen, (*in_plain_words(seen, policy), *run_words(run)))
    portable = await client.runners.grant(
        seen, secrets, run, ttl_s=ttl_s, accept=looking.accept, pin=looking.pin, wallet=owner_home().wallet()
    )
    kept = await deliver(url, portable)
    print_found(kept | {"run": run_statement_json(run), "seen": as_json(seen, policy)}, ())


async def _program(client: Client, text: str, *, follows: bool) -> ProgramRule:
    """Return the rule for a program: its hash, unless the owner wants to follow its developer."""
    if "/" not in text and len(text) == 64:
        if follows:
            raise InvalidInput("a hash is one version; --follow is about a project", hint="name DID/NAME")
        return ByHash(checked_sha256(text, what="--program"))
    project = project_of(text)
    active = await read_active(reader(client, project), project)
    if active is None:
        raise NotThere(f"no version of {project.text} is active", hint=f"sealspace project show {project.text}")
    if follows:
        return ByProject(project)
    words(f"{project.text} is {active.sha256} now; a later version needs a new grant")
    return ByHash(active.sha256, project)


@click.command(
    "share",
    epilog="Example: `sealspace project publish digest digest.wasm --private`, then `sealspace project share "
    "https://runner.example digest`. To end it: `sealspace runner revoke https://runner.example`.",
)
@expires_option
@yes_option
@looking_options
@click.argument("name", metavar="NAME")
@at_node
async def share(client: Client, url: str, looking: Looking, name: str, ttl_s: float) -> None:
    """Look at the runner at URL, and let it read and run the private project NAME of yours, all of its versions.

    Whoever may call that runner may have it run the program; secrets it gets as their owners granted them. The node
    holds the grant to the runner's DID; that no other code has that DID's key, only its platform holds.
    """
    project = project_of(checked_project_name(name))
    if await read_active(reader(client, project), project) is None:
        raise NotThere(
            f"no version of {project.text} is active", hint=f"sealspace project publish {project.name} FILE --private"
        )
    seen = await looking.look(url)
    looking.confirm(seen, in_plain_words(seen, looking.policy(seen, ttl_s=ttl_s)))
    portable = await client.runners.share_project(seen, name, ttl_s=ttl_s, wallet=owner_home().wallet())
    print_found(await deliver(url, portable), ())


_DEFAULT_TYPE = "hex32"
_JUDGED_TTL_S = 600.0


@click.command(
    "generate",
    epilog="Examples: `sealspace runner generate https://runner.example PROTECTED_KEY`, then `sealspace runner grant "
    "https://runner.example --secret PROTECTED_KEY --program DID/NAME`; `PROTECTED_PIN:password:12` names a type. It "
    "does not ask where `--like` or `--expect` name all the code, as in `sealspace backend grant`.",
)
@scope_option
@click.option("--yes", is_flag=True, help="Do not ask; what was seen makes them, whatever it is.")
@looking_options
@click.argument("names", metavar="NAME[:TYPE]…", nargs=-1, required=True)
@at_node
async def generate(client: Client, url: str, looking: Looking, names: tuple[str, ...], scope: str | None) -> None:
    """Have the runner at URL make secrets whose values nobody sees, and print their names.

    A name begins with PROTECTED_. TYPE is hex32 (the default), hex16, hex64, ed25519, ed25519_seed, password, or
    password:N with N from 8 to 256. They are sealed to your network `protected`, which is made with a policy that lets
    nobody open anything in person; where you take that away, each opening leaves a receipt. What is there is kept.
    """
    wanted = _wanted(names)
    generation_body(client.session.owner, scope, wanted)  # a wrong name waits for no quote
    seen = await looking.look(url)
    policy = looking.policy(seen, ttl_s=_JUDGED_TTL_S)
    looking.confirm(seen, in_plain_words(seen, policy), err=True)
    made = await client.runners.generate(
        seen, wanted, scope=scope, accept=looking.accept, pin=looking.pin, wallet=owner_home().wallet()
    )
    if made.statement is None:
        raise RunFailed(f"{made.code}: {made.message}", hint="spec/runner.md says what each code means")
    try:
        start = await start_of(url)
        run = await verify_generated(made.statement, start, looking.inspector, authorization=made.authorization)
        _require_made_by(run, seen, policy, made.generated)
    except (BackendError, StatementInvalid):
        unsafe = ", ".join(made.generated) or "nothing, for it made nothing"
        words(f"what was seen did not make them: delete {unsafe}")
        raise
    print_found({"generated": made.generated, "existing": made.existing}, made.generated)
    if made.code is not None:
        raise RunFailed(f"{made.code}: {made.message}", hint="the same command again makes what is missing")
    if made.existing:
        raise AlreadyThere(
            f"there already, and kept: {', '.join(made.existing)}", hint=f"sealspace secret delete {made.existing[0]}"
        )


def _require_made_by(run: VerifiedRun, seen: Seen, policy: Policy, generated: Sequence[str]) -> None:
    """Refuse secrets that other code made than was seen: it may have had the runner's key (RN149)."""
    require_like(seen_at_start(run), policy)
    stated = run.stated["secrets"]
    names = [one.get("name") for one in stated if isinstance(one, dict)] if isinstance(stated, list) else []
    if run.stated["runner"] != seen.did or names != list(generated):
        raise StatementInvalid("the runner states other secrets than it names")


def _wanted(names: Sequence[str]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for text in names:
        name, _, kind = text.partition(":")
        if name in wanted:
            raise InvalidInput(f"{name} is named twice", hint="once each")
        wanted[name] = kind or _DEFAULT_TYPE
    return wanted
