"""Grants to exactly what was seen: a backend verified on this machine, a runner for named programs
and callers."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

import click

from capabilities.capability_errors import InvalidJson
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Json, parse_json
from encryption_network.network_errors import PolicyError
from encryption_network.policy import Policy, parse_policy
from sealspace.apps.backends import (
    Leniency,
    Pin,
    Seen,
    fetch_evidence,
    is_whole_code,
    is_whole_policy,
    policy_for,
    require_address,
    require_expected,
    require_like,
)
from sealspace.apps.descriptions import (
    as_json,
    in_plain_words,
    run_grant_of,
    run_sentence,
    run_words,
)
from sealspace.apps.programs import read_active
from sealspace.apps.runners import network_name, start_of
from sealspace.cli.command_errors import AlreadyThere, ConfigurationError, NotThere, RunFailed
from sealspace.cli.durations import expires_option
from sealspace.cli.grant_create import hand_over_all
from sealspace.cli.node_terms import gathering
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.paths import FILE, FOLDER, read_named
from sealspace.cli.secret import scope_option
from sealspace.cli.shared import shared
from sealspace.cli.terminal import (
    optional_time,
    print_found,
    print_lines,
    time_text,
    watched,
    words,
)
from sealspace.client import Client
from sealspace.documents.call_conditions import AllowAll, Condition, Owner, parse_condition
from sealspace.documents.project_names import checked_project_name, checked_sha256
from sealspace.documents.published import Published
from sealspace.documents.run_grants import (
    ByHash,
    ByProject,
    GrantLimits,
    ProgramRule,
    RunStatement,
    checked_host,
    generation_body,
    run_statement_json,
)
from sealspace.errors import (
    BackendError,
    BackendNotAcceptable,
    InvalidInput,
    NotSignedIn,
    StatementInvalid,
)
from sealspace.secrets import parse_secret_label
from sealspace.wire.portable import PortableDelegation

from ..attestation.inspection import CollateralFolder, FetchedCollateral, Inspector
from ..runner.calls.generated_secrets import verify_generated
from ..runner.calls.run_receipts import VerifiedRun
from ..runner.guest.environment import is_reserved
from .grants import limit_options
from .program_commands import project_of, reader
from .trust_files import read_trust_root

_SHOWN_TTL_S: Final = 86_400.0
_MAX_APPROVED_BYTES: Final = 256 * 1024


class Looking:
    """What a backend is judged by: the options of a command, else what the last login stored.

    `approved_secrets` are those that the backend asked for when its code was approved.
    """

    def __init__(
        self,
        *,
        expect: tuple[str, ...],
        like: Path | None,
        trust_root: Path | None,
        collateral: Path | None,
        accept: tuple[Leniency, ...] = (),
        pin: Pin = "compose",
        yes: bool = False,
    ) -> None:
        self.expect, self.accept, self.pin, self.yes = expect, accept, pin, yes
        self.approved, self.approved_secrets = _approved_in(like)
        with suppress(NotSignedIn):
            remembered = owner_home().profile()
            trust_root, collateral = (
                trust_root or remembered.trust_root,
                collateral or remembered.collateral,
            )
        documents = FetchedCollateral() if collateral is None else CollateralFolder(collateral)
        self.inspector = Inspector(documents, root=read_trust_root(trust_root))

    async def look(self, url: str) -> Seen:
        """Inspect a backend, and refuse one that runs other code than is expected or approved."""
        words(f"asking {url} for a fresh quote, and verifying it …")
        seen = await fetch_evidence(url, self.inspector)
        self.require(seen)
        return seen

    def require(self, seen: Seen) -> None:
        """Refuse other code than is expected or approved."""
        require_expected(seen, self.expect)
        if self.approved is not None:
            require_like(seen, self.approved)

    def knows(self, seen: Seen) -> bool:
        """Whether no part of the code is left open: an open part, and its keys, could be anyone's
        (AT53)."""
        by_policy = self.approved is not None and is_whole_policy(seen, self.approved)
        return by_policy or is_whole_code(seen, self.expect)

    def policy(self, seen: Seen, paths: Sequence[str] = (), *, ttl_s: float) -> Policy:
        """Return the policy of a grant to what was seen."""
        return policy_for(seen, paths=paths, accept=self.accept, pin=self.pin, ttl_s=ttl_s)

    def confirm(
        self, seen: Seen, lines: Iterable[str], *, are_named: bool = True, err: bool = False
    ) -> None:
        """Show what was seen, and go on only with a person's consent: nothing is confirmed that is
        not shown.

        With --yes nobody is asked, nor where the options name all the code, and all that is granted
        (`are_named`).
        """
        print_lines(*lines, err=err or shared().as_json)
        if self.yes or (self.knows(seen) and are_named):
            return
        if not watched():
            raise InvalidInput(
                "nobody is here to confirm what was seen",
                hint=(
                    "name approved code with --like FILE, or whole with --expect (a compose hash"
                    " needs its key provider), and its secrets with --secret; or add --yes to trust"
                    " what was seen"
                ),
            )
        click.confirm("grant to exactly this?", abort=True, err=True)


def _address(url: str) -> str:
    require_address(url)
    return url


looking_options: Final = gathering(
    "looking",
    Looking,
    click.argument("url", type=_address),
    click.option(
        "--expect",
        metavar="TEXT",
        multiple=True,
        help=(
            "What the code has to be: a compose hash (64 hex digits), a measurement (96), or who"
            " gives the application its keys, as `show` prints it (`kms:<hex>`); may be repeated."
        ),
    ),
    click.option(
        "--like",
        type=FILE,
        help=(
            "The same code as in this file, which `show --json` printed when you approved it, or a"
            " policy."
        ),
    ),
    click.option(
        "--accept",
        type=click.Choice(get_args(Leniency)),
        multiple=True,
        help="Accept what the strict terms refuse, as it was seen and no further.",
    ),
    click.option(
        "--pin",
        type=click.Choice(get_args(Pin)),
        default="compose",
        show_default=True,
        help="What a grant names beside the image: the compose file, or this one start of it.",
    ),
    click.option(
        "--trust-root",
        type=FILE,
        help="Root certificate instead of Intel's, or of the one that the login remembered.",
    ),
    click.option(
        "--collateral",
        type=FOLDER,
        help=(
            "Folder of collateral, instead of asking Intel or of the one that the login remembered."
        ),
    ),
)
"""Adds the argument URL, and the options for what a backend is judged by; the command receives them
as `looking`."""


def seen_at_start(run: VerifiedRun) -> Seen:
    """Return the runner as it was at its start, to be compared as one that is seen now."""
    start = run.start
    published = Published(
        nonce=b"", statement=start.statement, quote=start.quote, event_log=start.event_log
    )
    return Seen(
        url="",
        published=published,
        verified=run.runner,
        seen_at=parse_rfc3339(str(run.stated["at"])),
    )


@click.command(
    "show",
    epilog=(
        "Example: `sealspace backend show https://backend.example`; with `--json > approved.json`"
        " it is kept for `grant --like approved.json`. Nobody has to be logged in."
    ),
)
@looking_options
def show(url: str, looking: Looking) -> None:
    """Ask the backend at URL what it runs, verify its quote on this machine, and say what a grant
    would name.

    Nothing is granted.
    """
    seen = asyncio.run(looking.look(url))
    try:
        policy = looking.policy(seen, ttl_s=_SHOWN_TTL_S)
    except BackendNotAcceptable:
        # It is shown all the same, so that a person can read what is wrong.
        print_found(as_json(seen), in_plain_words(seen))
        raise
    shown: list[Json] = []
    lines = []
    for one in owner_home().grants_to(seen.did):
        grant = run_grant_of(one.portable)
        if grant is not None and seen.seen_at < grant.expires_at:
            shown.append({"cid": one.portable.cid, "run": run_statement_json(grant.statement)})
            secrets, until = (
                ", ".join(secret.label for secret in grant.secrets),
                time_text(grant.expires_at),
            )
            lines.append(f"you granted    {secrets} until {until}, {run_sentence(grant.statement)}")
    print_found(
        as_json(seen, policy) | ({"runGrants": shown} if seen.is_runner else {}),
        (*in_plain_words(seen, policy), *lines),
    )
    more = " --secret NAME --program DID/NAME" if seen.is_runner else ""
    words(
        f"to grant to exactly this: sealspace {'runner' if seen.is_runner else 'backend'} grant"
        f" {url}{more}"
    )


def _approved_in(path: Path | None) -> tuple[Policy | None, frozenset[str]]:
    """Read the output of `show --json`, or a policy alone, from a file: the policy, and the secrets
    beside it."""
    if path is None:
        return None, frozenset()
    try:
        value = parse_json(
            read_named(path, most_bytes=_MAX_APPROVED_BYTES), max_bytes=_MAX_APPROVED_BYTES
        )
        secrets = value.get("secrets")
        return parse_policy(value.get("policy", value)), frozenset(
            map(str, secrets if isinstance(secrets, list) else ())
        )
    except (InvalidJson, PolicyError):
        raise ConfigurationError(
            f"{path} is neither what `backend show --json` printed nor a policy",
            hint="sealspace backend show URL --json > approved.json",
        ) from None


_expires_option: Final = expires_option("7d", "How long the grant lasts: 30m, 12h, 90d.")
yes_option: Final = click.option(
    "--yes", is_flag=True, help="Do not ask; what was seen is granted to, whatever it is."
)


@click.command(
    "grant",
    epilog=(
        "Examples: `sealspace backend grant https://backend.example` shows what it found and asks."
        " With `--like approved.json`, which `show --json` printed when you approved the code, it"
        " does not ask, and grants only to that and what it asked for then; nor does it ask where"
        " `--expect` names MRTD, RTMR0 to RTMR2, and RTMR3 or the compose hash and the key"
        " provider, and `--secret` what is granted."
    ),
)
@click.option(
    "--secret",
    "secrets",
    metavar="NAME",
    multiple=True,
    help="A secret to grant; repeatable. All that the backend asks for by default.",
)
@_expires_option
@yes_option
@click.option(
    "--no-hand-over", is_flag=True, help="Keep the grant's file; do not send it to the backend."
)
@looking_options
@at_node
async def grant(
    client: Client,
    url: str,
    looking: Looking,
    secrets: tuple[str, ...],
    ttl_s: float,
    no_hand_over: bool,
) -> None:
    """Look at the backend at URL, show what it runs, and grant secrets to exactly that.

    The grant names the backend's DID and its code: whoever holds the one and does not run the other
    gets no key. The wallet signs it, and the backend receives it.
    """
    seen = await looking.look(url)
    asked_for = [one.label for one in seen.wanted]
    resources = client.backends.resources(seen, secrets or None)
    await require_stored(client, secrets or asked_for)
    # nobody is asked about a grant that would open nothing
    await client.backends.require_judgeable(seen)
    policy = looking.policy(seen, resources, ttl_s=ttl_s)
    # The secrets were named, now or when the code was approved: a manifest is not part of the code.
    are_named = bool(secrets) or looking.approved_secrets.issuperset(asked_for)
    looking.confirm(seen, in_plain_words(seen, policy), are_named=are_named)
    portable = await client.backends.grant(
        seen,
        secrets or None,
        ttl_s=ttl_s,
        accept=looking.accept,
        pin=looking.pin,
        wallet=owner_home().wallet(),
    )
    kept = await deliver(url, portable, hands_over=not no_hand_over)
    print_found(kept | {"handedOver": not no_hand_over, "seen": as_json(seen, policy)}, ())


async def require_stored(client: Client, labels: Sequence[str]) -> None:
    """Report before granting that a secret does not exist: the backend would only find out
    later."""
    secrets = [parse_secret_label(label) for label in labels]
    stored = {
        scope: await client.secrets().list(scope=scope)
        for scope in {secret.scope for secret in secrets}
    }
    for secret in secrets:
        if secret.name not in stored[secret.scope]:
            named = secret.name if secret.scope is None else f"{secret.name} --scope {secret.scope}"
            raise InvalidInput(
                f"there is no secret {named}", hint=f"sealspace secret put {named} < FILE"
            )


async def deliver(
    url: str, portable: PortableDelegation, *, hands_over: bool = True
) -> dict[str, Json]:
    """Store a grant, and send it to the backend at an address; returns its id, its file and its end
    as JSON."""
    path = owner_home().keep_grant(portable, url=url)
    words(f"granted: {portable.cid}")
    if hands_over:
        await hand_over_all(url, [portable], kept=str(path))
    return {
        "granted": portable.cid,
        "file": str(path),
        "expiresAt": optional_time(portable.expires_at),
    }


# --- runners --------------------------------------------------------------------------------------


_MAX_CONDITION_FILE_BYTES: Final = 64 * 1024


def _condition(
    callers: tuple[str, ...], anybody: bool, is_owner: bool, file: Path | None
) -> Condition:
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
    raise InvalidInput(
        f"{file} holds no condition", hint='{"Whitelist": {"accounts": ["did:key:…"]}}'
    )


@click.command(
    "grant",
    epilog=(
        "Example: `sealspace runner grant https://runner.example --secret API_KEY --program"
        " did:key:z6Mk…/digest` shows what runs there and what is granted, and asks. It does not"
        " ask where `--like` or `--expect` name all the code, as in `sealspace backend grant`."
    ),
)
@click.option(
    "--secret",
    "secrets",
    metavar="NAME",
    multiple=True,
    required=True,
    help="NAME or SCOPE/NAME; repeatable.",
)
@click.option(
    "--program",
    "programs",
    metavar="SHA256|DID/NAME",
    multiple=True,
    required=True,
    help=(
        "The program that gets them: the active version of a project, whose manifest then counts,"
        " or a hash, which has no manifest and sends nothing; repeatable."
    ),
)
@click.option(
    "--follow",
    "follows",
    is_flag=True,
    help="Whatever version of the project is active: its developer decides.",
)
@gathering(
    "condition",
    _condition,
    click.option(
        "--caller",
        "callers",
        metavar="DID",
        multiple=True,
        help="Who may call, and nobody else; repeatable.",
    ),
    click.option("--anybody", is_flag=True, help="Anybody may call."),
    click.option("--owner", "is_owner", is_flag=True, help="You alone may call; the default."),
    click.option("--condition", "file", type=FILE, help="A condition on callers, as JSON."),
)
@click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    help="Where the program may send anything; none by default.",
)
@limit_options(GrantLimits)
@_expires_option
@yes_option
@looking_options
@at_node
async def grant_runner(
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
    """Look at the runner at URL, and grant secrets to exactly that code, for named programs and
    callers alone.

    The node holds the runner to its code. That only these programs run with the secrets, and only
    for these callers, that code sees to. The wallet signs the grant, and the runner receives it.
    """
    named = [parse_secret_label(label) for label in secrets]
    for secret in named:
        if is_reserved(secret.name):
            raise InvalidInput(
                f"{secret.label} is a name of the runner's own",
                hint="store the secret under another name",
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
    # nobody is asked about a grant that would open nothing
    await client.backends.require_judgeable(seen)
    paths = [client.secrets().resource(secret.name, scope=secret.scope) for secret in named]
    policy = looking.policy(seen, paths, ttl_s=ttl_s)
    looking.confirm(seen, (*in_plain_words(seen, policy), *run_words(run)))
    portable = await client.runners.grant(
        seen,
        secrets,
        run,
        ttl_s=ttl_s,
        accept=looking.accept,
        pin=looking.pin,
        wallet=owner_home().wallet(),
    )
    kept = await deliver(url, portable)
    print_found(kept | {"run": run_statement_json(run), "seen": as_json(seen, policy)}, ())


async def _program(client: Client, text: str, *, follows: bool) -> ProgramRule:
    """Return the rule for a program: its hash, unless the owner wants to follow its developer."""
    if "/" not in text and len(text) == 64:
        if follows:
            raise InvalidInput(
                "a hash is one version; --follow is about a project", hint="name DID/NAME"
            )
        return ByHash(checked_sha256(text, what="--program"))
    project = project_of(text)
    active = await read_active(reader(client, project), project)
    if active is None:
        raise NotThere(
            f"no version of {project.text} is active", hint=f"sealspace project show {project.text}"
        )
    if follows:
        return ByProject(project)
    words(f"{project.text} is {active.sha256} now; a later version needs a new grant")
    return ByHash(active.sha256, project)


@click.command(
    "share",
    epilog=(
        "Example: `sealspace project publish digest digest.wasm --private`, then `sealspace project"
        " share https://runner.example digest`. To end it: `sealspace runner revoke"
        " https://runner.example`."
    ),
)
@_expires_option
@yes_option
@looking_options
@click.argument("name", metavar="NAME")
@at_node
async def share(client: Client, url: str, looking: Looking, name: str, ttl_s: float) -> None:
    """Look at the runner at URL, and let it read and run the private project NAME of yours, all of
    its versions.

    Whoever may call that runner may have it run the program; secrets it gets as their owners
    granted them. The node holds the grant to the runner's DID; that no other code has that DID's
    key, only its platform holds.
    """
    project = project_of(checked_project_name(name))
    if await read_active(reader(client, project), project) is None:
        raise NotThere(
            f"no version of {project.text} is active",
            hint=f"sealspace project publish {project.name} FILE --private",
        )
    seen = await looking.look(url)
    looking.confirm(seen, in_plain_words(seen, looking.policy(seen, ttl_s=ttl_s)))
    portable = await client.runners.share_project(
        seen, name, ttl_s=ttl_s, wallet=owner_home().wallet()
    )
    print_found(await deliver(url, portable), ())


_DEFAULT_TYPE = "hex32"
_JUDGED_TTL_S = 600.0


@click.command(
    "generate",
    epilog=(
        "Examples: `sealspace runner generate https://runner.example PROTECTED_KEY`, then"
        " `sealspace runner grant https://runner.example --secret PROTECTED_KEY --program"
        " DID/NAME`; `PROTECTED_PIN:password:12` names a type. It does not ask where `--like` or"
        " `--expect` name all the code, as in `sealspace backend grant`."
    ),
)
@scope_option
@click.option("--yes", is_flag=True, help="Do not ask; what was seen makes them, whatever it is.")
@looking_options
@click.argument("names", metavar="NAME[:TYPE]…", nargs=-1, required=True)
@at_node
async def generate(
    client: Client, url: str, looking: Looking, names: tuple[str, ...], scope: str | None
) -> None:
    """Have the runner at URL make secrets whose values nobody sees, and print their names.

    A name begins with PROTECTED_. TYPE is hex32 (the default), hex16, hex64, ed25519, ed25519_seed,
    password, or password:N with N from 8 to 256. They are sealed to your network `protected`, which
    is made with a policy that lets nobody open anything in person; where you take that away, each
    opening leaves a receipt. What is there is kept.
    """
    wanted = _wanted(names)
    generation_body(client.session.owner, scope, wanted)  # a wrong name waits for no quote
    seen = await looking.look(url)
    policy = looking.policy(seen, ttl_s=_JUDGED_TTL_S)
    looking.confirm(seen, in_plain_words(seen, policy), err=True)
    made = await client.runners.generate(
        seen,
        wanted,
        scope=scope,
        accept=looking.accept,
        pin=looking.pin,
        wallet=owner_home().wallet(),
    )
    if made.statement is None:
        raise RunFailed(
            f"{made.code}: {made.message}", hint="spec/runner.md says what each code means"
        )
    try:
        start = await start_of(url)
        run = await verify_generated(
            made.statement, start, looking.inspector, authorization=made.authorization
        )
        _require_made_by(run, seen, policy, made.generated)
    except (BackendError, StatementInvalid):
        unsafe = ", ".join(made.generated) or "nothing, for it made nothing"
        words(f"what was seen did not make them: delete {unsafe}")
        raise
    print_found({"generated": made.generated, "existing": made.existing}, made.generated)
    if made.code is not None:
        raise RunFailed(
            f"{made.code}: {made.message}", hint="the same command again makes what is missing"
        )
    if made.existing:
        raise AlreadyThere(
            f"there already, and kept: {', '.join(made.existing)}",
            hint=f"sealspace secret delete {made.existing[0]}",
        )


def _require_made_by(
    run: VerifiedRun, seen: Seen, policy: Policy, generated: Sequence[str]
) -> None:
    """Refuse secrets that other code made than was seen: it may have had the runner's key
    (RN149)."""
    require_like(seen_at_start(run), policy)
    stated = run.stated["secrets"]
    names = (
        [one.get("name") for one in stated if isinstance(one, dict)]
        if isinstance(stated, list)
        else []
    )
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
