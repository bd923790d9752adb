"""Commands that verify a backend or runner and grant it access to secrets."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import get_args

import click

from capabilities.capability_errors import InvalidJson
from capabilities.clock_and_entropy import SystemEntropy
from capabilities.signatures import Ed25519Signer
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Json, JsonObject, parse_json
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
from sealspace.apps.runners import network_name, start_of
from sealspace.cli.command_errors import AlreadyThere, ConfigurationError, RunFailed
from sealspace.cli.durations import expires_option
from sealspace.cli.grant_create import hand_over_all
from sealspace.cli.node_terms import gathering
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.paths import FOLDER, file_option, read_named
from sealspace.cli.secret import scope_option
from sealspace.cli.shared import shared
from sealspace.cli.terminal import (
    confirm,
    end_text,
    flag_option,
    optional_time,
    print_lines,
    print_result,
    repeatable_option,
    tell,
    time_text,
)
from sealspace.client import Client
from sealspace.documents.call_conditions import Condition, Owner
from sealspace.documents.iexec_names import SCOPES
from sealspace.documents.project_names import checked_project_name
from sealspace.documents.run_grants import (
    GrantLimits,
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
from sealspace.secrets import is_protected, is_reserved, parse_secret_label
from sealspace.wire.portable import PortableDelegation
from sealspace.wire.token_line import token_line

from ..attestation.inspection import CollateralFolder, FetchedCollateral, Inspector
from ..runner.calls.generated_secrets import verify_generated
from ..runner.calls.run_receipts import VerifiedRun
from .grants import condition_options, limit_options
from .program_commands import active_hash, project_of
from .repository_grants import WantedBuild, build_options, program_rules, refresh
from .trust_files import read_trust_root

_SHOWN_TTL_S = 86_400.0  # of the policy that `show` prints; it grants nothing
_MAX_APPROVED_BYTES = 256 * 1024


class BackendVerifier:
    """A verifier of backends, configured by command options.

    The last login has the default root certificate and collateral. `approved_secrets` are those
    that the approved code asked for.
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
        self.approved: Policy | None = None
        self.approved_secrets = frozenset[str]()
        if like is not None:  # output of `show --json`, or a policy alone
            try:
                value = parse_json(
                    read_named(like, most_bytes=_MAX_APPROVED_BYTES), max_bytes=_MAX_APPROVED_BYTES
                )
                self.approved = parse_policy(value.get("policy", value))
            except (InvalidJson, PolicyError):
                raise ConfigurationError(
                    f"{like} is neither output of `backend show --json` nor a policy",
                    hint="sealspace backend show URL --json > approved.json",
                ) from None
            secrets = value.get("secrets")
            self.approved_secrets = frozenset(
                map(str, secrets if isinstance(secrets, list) else ())
            )
        with suppress(NotSignedIn):
            profile = owner_home().profile()
            trust_root = trust_root or profile.trust_root
            collateral = collateral or profile.collateral
        documents = FetchedCollateral() if collateral is None else CollateralFolder(collateral)
        self.inspector = Inspector(documents, root=read_trust_root(trust_root))

    async def verify(self, url: str) -> Seen:
        """Fetch and verify a backend's evidence.

        The code must also match the command options.
        """
        tell(f"requesting a fresh quote from {url}, and verifying it …")
        seen = await fetch_evidence(url, self.inspector)
        self.require(seen)
        return seen

    def require(self, seen: Seen) -> None:
        """Check a backend's code against the options `--expect` and `--like`."""
        require_expected(seen, self.expect)
        if self.approved is not None:
            require_like(seen, self.approved)

    def names_all_code(self, seen: Seen) -> bool:
        """Return whether the command options specify all of a backend's code (AT53).

        The options are `--expect` and `--like`.
        """
        by_policy = self.approved is not None and is_whole_policy(seen, self.approved)
        return by_policy or is_whole_code(seen, self.expect)

    def policy(self, seen: Seen, paths: Sequence[str] = (), *, ttl_s: float) -> Policy:
        """Return a policy that limits a grant to the verified code."""
        return policy_for(seen, paths=paths, accept=self.accept, pin=self.pin, ttl_s=ttl_s)

    def confirm(
        self, seen: Seen, lines: Iterable[str], *, are_named: bool = True, err: bool = False
    ) -> None:
        """Ask the user to confirm a grant.

        Everything that is granted is printed first. No question is asked with --yes, or if the
        options name all the code and all that is granted (`are_named`).
        """
        print_lines(*lines, err=err or shared().as_json)
        if self.yes or (self.names_all_code(seen) and are_named):
            return
        confirm(
            "grant access to exactly this code?",
            hint="add one of these options: --like FILE (saved output of `backend show --json`),"
            " --expect for each part of the code and the key provider, or --yes (any code)",
        )


def _address(url: str) -> str:
    require_address(url)
    return url


verifier_options = gathering(
    "verifier",
    BackendVerifier,
    click.argument("url", type=_address),
    repeatable_option(
        "--expect",
        metavar="TEXT",
        help="Code or key provider to require: a compose hash (64 hex digits), a measurement (96"
        " hex digits), or a key provider as `show` prints it (`kms:<hex>`); repeatable.",
    ),
    file_option(
        "--like",
        help="Require the code that FILE describes. FILE is a policy, or the output of `show"
        " --json` that you saved when you approved the code.",
    ),
    repeatable_option(
        "--accept",
        type=click.Choice(get_args(Leniency)),
        help="Accept the platform's current value of this property, even if the value is refused by"
        " default; repeatable.",
    ),
    click.option(
        "--pin",
        type=click.Choice(get_args(Pin)),
        default="compose",
        show_default=True,
        help="compose: grant to every instance of the image and compose file. instance: grant only"
        " to the running instance.",
    ),
    file_option(
        "--trust-root",
        help="Root certificate. Default: the one of the last login; if none was given, Intel's.",
    ),
    click.option(
        "--collateral",
        type=FOLDER,
        help="Collateral folder. Default: the folder given at the last login; if none was given,"
        " collateral comes from Intel's service.",
    ),
)
"""Adds the argument URL and the options for judging a backend, passed to the command as one
argument `verifier`."""


def startup_evidence(run: VerifiedRun) -> Seen:
    """Return the verified startup evidence of a runner."""
    return Seen(
        url="",
        published=run.start,
        verified=run.runner,
        seen_at=parse_rfc3339(str(run.stated["at"])),
    )


@click.command(
    "show",
    epilog="Example: `sealspace backend show https://backend.example`. Store the result with"
    " `--json > approved.json` for `grant --like approved.json`. No login is needed.",
)
@verifier_options
def show(url: str, verifier: BackendVerifier) -> None:
    """Verify the backend at URL and show its code.

    The output also shows what a grant would allow. The evidence is verified on this machine.
    Nothing is granted.
    """
    seen = asyncio.run(verifier.verify(url))
    try:
        policy = verifier.policy(seen, ttl_s=_SHOWN_TTL_S)
    except BackendNotAcceptable:
        # Shown in spite of the refusal, so that a person can read what is wrong.
        print_result(as_json(seen), in_plain_words(seen))
        raise
    shown: list[Json] = []
    lines = []
    for one in owner_home().grants_to(seen.did):
        grant = run_grant_of(one.portable)
        if grant is not None and seen.seen_at < grant.expires_at:
            shown.append({"cid": one.portable.cid, "run": run_statement_json(grant.statement)})
            secrets = ", ".join(secret.label for secret in grant.secrets)
            until = time_text(grant.expires_at)
            lines.append(f"you granted    {secrets} until {until}, {run_sentence(grant.statement)}")
    print_result(
        as_json(seen, policy) | ({"runGrants": shown} if seen.is_runner else {}),
        (*in_plain_words(seen, policy), *lines),
    )
    more = " --secret NAME --program DID/NAME" if seen.is_runner else ""
    tell(
        f"to grant to exactly this code: sealspace {'runner' if seen.is_runner else 'backend'}"
        f" grant {url}{more}"
    )


_expires_option = expires_option("7d", "How long the grant lasts: 30m, 12h, 90d.")
yes_option = flag_option(
    "--yes",
    help="Grant without asking for confirmation, regardless of the code that runs at URL.",
)


@click.command(
    "grant",
    epilog="Example: `sealspace backend grant https://backend.example` shows the code and asks for"
    " confirmation. It does not ask with `--like approved.json`, the output of `show --json`"
    " when you approved the code, and grants only what that code asked for then. Nor does it"
    " ask if"
    " `--expect` names MRTD, RTMR0 to RTMR2, and either RTMR3 or the compose hash and the key"
    " provider, and `--secret` names the secrets.",
)
@repeatable_option(
    "--secret",
    "secrets",
    metavar="NAME",
    help="A secret to grant; repeatable. Default: everything the backend requests.",
)
@_expires_option
@yes_option
@flag_option("--no-hand-over", help="Store the grant, but do not send it to URL.")
@verifier_options
@at_node
async def grant(
    client: Client,
    url: str,
    verifier: BackendVerifier,
    secrets: tuple[str, ...],
    ttl_s: float,
    no_hand_over: bool,
) -> None:
    """Verify the backend at URL and grant it secrets.

    The backend's code is shown, and the secrets are granted to exactly that code. The grant names
    the backend's DID and its code, and keys are released only if both match. The wallet signs the
    grant, and the backend receives it.
    """
    seen = await verifier.verify(url)
    asked_for = [one.label for one in seen.wanted]
    resources = client.backends.resources(seen, secrets or None)
    await require_stored(client, secrets or asked_for)
    # before the question: a grant that the node would refuse to judge opens nothing
    await client.backends.require_judgeable(seen)
    policy = verifier.policy(seen, resources, ttl_s=ttl_s)
    # A manifest is not part of the code, and may ask for more secrets than at the approval. So the
    # secrets have to be named, now or then.
    are_named = bool(secrets) or verifier.approved_secrets.issuperset(asked_for)
    verifier.confirm(seen, in_plain_words(seen, policy), are_named=are_named)
    portable = await client.backends.grant(
        seen,
        secrets or None,
        ttl_s=ttl_s,
        accept=verifier.accept,
        pin=verifier.pin,
        wallet=owner_home().wallet(),
    )
    kept = await deliver(url, portable, hands_over=not no_hand_over)
    print_result(kept | {"handedOver": not no_hand_over, "seen": as_json(seen, policy)})


async def require_stored(client: Client, labels: Sequence[str]) -> None:
    """Check that the secrets of a grant are stored at the node."""
    secrets = [parse_secret_label(label) for label in labels]
    stored = {
        scope: await client.secrets().list(scope=scope)
        for scope in {secret.scope for secret in secrets}
    }
    for secret in secrets:
        if secret.name not in stored[secret.scope]:
            named = secret.name if secret.scope is None else f"{secret.name} --scope {secret.scope}"
            hint = SCOPES.get(secret.scope, f"sealspace secret put {named} < FILE")
            if is_protected(secret.name):
                hint = f"sealspace runner generate URL {named}"
            raise InvalidInput(f"there is no secret {named}", hint=hint)


async def deliver(url: str, portable: PortableDelegation, *, hands_over: bool = True) -> JsonObject:
    """Save a grant on this machine and send it to the backend.

    Returns the grant's CID, file and expiry time as JSON.
    """
    path = owner_home().keep_grant(portable, url=url)
    tell(f"granted {end_text(portable.expires_at)}: {portable.cid}")
    if hands_over:
        await hand_over_all(url, [portable], kept=str(path))
    return {
        "granted": portable.cid,
        "file": str(path),
        "expiresAt": optional_time(portable.expires_at),
    }


# --- runners --------------------------------------------------------------------------------------


@click.command(
    "grant",
    epilog="Example: `sealspace runner grant https://runner.example --secret API_KEY --program"
    " did:key:z6Mk…/digest` shows the runner's code and the grant, and asks for"
    " confirmation. The command does not ask if `--like` or `--expect` names every part of the"
    " code; see `sealspace backend grant --help`. For a repository: `--repository"
    " github.com/alice/digest --ref refs/heads/main`, and after a new build `sealspace runner"
    " grant https://runner.example --refresh`.",
)
@repeatable_option(
    "--secret",
    "secrets",
    metavar="NAME",
    help="NAME or SCOPE/NAME; repeatable.",
)
@repeatable_option(
    "--program",
    "programs",
    metavar="SHA256|DID/NAME",
    help="Program that gets the secrets; repeatable. DID/NAME: the active version of a project,"
    " with the manifest of that version. SHA256: a program that has no manifest and no network"
    " access.",
)
@flag_option(
    "--follow",
    "follows",
    help="Grant to the version that is active at each call. The developer chooses that version.",
)
@condition_options
@repeatable_option(
    "--host",
    "hosts",
    metavar="HOST",
    help="A host that the program may contact; repeatable. None by default.",
)
@limit_options(GrantLimits)
@build_options
@flag_option(
    "--refresh",
    "refreshes",
    help="Replace your grants to former builds of the repository by grants to the active build.",
)
@flag_option("--all", "everything", help="With --refresh: refresh for all repositories.")
@flag_option(
    "--for-job",
    help="With --repository: print a token with which a job grants the active build, and later ones"
    " with --refresh. The token opens no secret.",
)
@_expires_option
@yes_option
@verifier_options
@at_node
async def grant_runner(
    client: Client,
    url: str,
    verifier: BackendVerifier,
    secrets: tuple[str, ...],
    programs: tuple[str, ...],
    follows: bool,
    condition: Condition,
    hosts: tuple[str, ...],
    limits: GrantLimits,
    wanted: WantedBuild,
    refreshes: bool,
    everything: bool,
    for_job: bool,
    ttl_s: float,
) -> int:
    """Verify the runner at URL and grant it secrets.

    The secrets are for the named programs and callers only. The node releases the secrets only to
    the runner's verified code. That code passes the secrets only to the named programs, and only
    when a named caller runs the program. The wallet signs the grant, and the runner receives the
    grant.

    With --repository, the secrets are for a build of this repository on GitHub. With --refresh, a
    new grant has the secrets, callers, hosts, limits and lifetime of the old one. A job sets
    SEALSPACE_TOKEN to its token.
    """
    if refreshes:
        terms = (secrets, programs, follows, hosts, wanted.ref, wanted.workflow, for_job)
        if any(terms) or condition != Owner() or limits != GrantLimits():
            raise click.UsageError("--refresh changes the build alone: leave out other terms")
        seen = await verifier.verify(url)
        grant = partial(_grant, client, url, verifier, seen)
        return await refresh(
            client, url, seen.did, wanted, grant, everything=everything, ttl_s=ttl_s
        )
    if everything:
        raise click.UsageError("--all requires --refresh")
    if for_job and wanted.repository is None:
        raise click.UsageError("--for-job requires --repository")
    if not secrets or not programs:
        raise click.UsageError("name what to grant: --secret NAME and --program SHA256|DID/NAME")
    named = [parse_secret_label(label) for label in secrets]
    for secret in named:
        if is_reserved(secret.name):
            raise InvalidInput(
                f"{secret.label} is a reserved name", hint="store the secret under another name"
            )
    network_name(named)  # refuses secrets of two networks: one grant covers one network
    rules = await program_rules(client, programs, wanted, follows=follows)
    seen = await verifier.verify(url)
    run = RunStatement(
        callers=condition,
        hosts=tuple(map(checked_host, hosts)),
        limits=limits,
        programs=rules,
        refresh_for=seen.did if for_job else None,
    )
    made = await _grant(client, url, verifier, seen, secrets, run, ttl_s)
    print_result(made, [str(made["token"])] if for_job else ())
    return 0


async def _grant(
    client: Client,
    url: str,
    verifier: BackendVerifier,
    seen: Seen,
    secrets: Sequence[str],
    run: RunStatement,
    ttl_s: float,
) -> JsonObject:
    """Grant secrets to a verified runner or to a job, after a confirmation."""
    await require_stored(client, secrets)
    # before the question: a grant that the node would refuse to judge opens nothing
    await client.backends.require_judgeable(seen)
    paths = [
        client.secrets().resource(secret.name, scope=secret.scope)
        for secret in map(parse_secret_label, secrets)
    ]
    policy = verifier.policy(seen, paths, ttl_s=ttl_s)
    verifier.confirm(seen, (*in_plain_words(seen, policy), *run_words(run)))
    seed = SystemEntropy().token(32) if run.refresh_for else b""
    portable = await client.runners.grant(
        seen,
        secrets,
        run,
        ttl_s=ttl_s,
        accept=verifier.accept,
        pin=verifier.pin,
        wallet=owner_home().wallet(),
        job=Ed25519Signer(seed).did if seed else None,
    )
    kept = await deliver(url, portable, hands_over=not seed)
    if seed:
        kept["token"] = token_line(seed, (await client.info()).node_id, portable.header)
    return kept | {"run": run_statement_json(run), "seen": as_json(seen, policy)}


@click.command(
    "share",
    epilog="Example: `sealspace project publish digest digest.wasm --private`, then `sealspace"
    " project share https://runner.example digest`. To stop sharing: `sealspace runner revoke"
    " https://runner.example`.",
)
@_expires_option
@yes_option
@click.option(
    "--storage",
    "folder",
    flag_value="storage",
    default="projects",
    help="Let the program, public or private, store values in your space `projects`, and no more.",
)
@verifier_options
@click.argument("name", metavar="NAME")
@at_node
async def share(
    client: Client, url: str, verifier: BackendVerifier, name: str, folder: str, ttl_s: float
) -> None:
    """Share your private project NAME with the runner at URL.

    The runner is verified first. It may read and run every version of the project, for everyone who
    may call it. The program gets only secrets that were granted to it. The node lets anyone with
    the runner's key read the program; the runner's platform protects this key from other code.
    """
    await active_hash(client, project_of(checked_project_name(name)))
    seen = await verifier.verify(url)
    verifier.confirm(seen, in_plain_words(seen, verifier.policy(seen, ttl_s=ttl_s)))
    portable = await client.runners.share_project(
        seen, name, folder=folder, ttl_s=ttl_s, wallet=owner_home().wallet()
    )
    print_result(await deliver(url, portable))


# The policy is used for the question and for checking the answer, not for a grant.
_GENERATE_TTL_S = 600.0


@click.command(
    "generate",
    epilog="Examples: `sealspace runner generate https://runner.example PROTECTED_KEY`, then"
    " `sealspace runner grant https://runner.example --secret PROTECTED_KEY --program"
    " DID/NAME`; `PROTECTED_PIN:password:12` names a type. The command does not ask if"
    " `--like` or `--expect` names every part of the code; see `sealspace backend grant"
    " --help`.",
)
@scope_option
@flag_option(
    "--yes",
    help="Generate without asking for confirmation, regardless of the code that runs at URL.",
)
@verifier_options
@click.argument("names", metavar="NAME[:TYPE]…", nargs=-1, required=True)
@at_node
async def generate(
    client: Client, url: str, verifier: BackendVerifier, names: tuple[str, ...], scope: str | None
) -> None:
    """Generate secrets inside the runner at URL.

    Only the names of the secrets are printed. A name begins with PROTECTED_. TYPE is hex32 (the
    default), hex16, hex64, ed25519, ed25519_seed, password, or password:N with N from 8 to 256. The
    secrets are sealed to your network `protected`, which is made with a policy against opening in
    person; if you remove that policy, each opening leaves a receipt. Existing secrets are kept.
    """
    wanted: dict[str, str] = {}
    for text in names:
        name, _, kind = text.partition(":")
        if name in wanted:
            raise InvalidInput(f"{name} is named twice", hint="name each secret once")
        wanted[name] = kind or "hex32"
    generation_body(client.session.owner, scope, wanted)  # refuse a wrong name before the quote
    seen = await verifier.verify(url)
    policy = verifier.policy(seen, ttl_s=_GENERATE_TTL_S)
    verifier.confirm(seen, in_plain_words(seen, policy), err=True)
    made = await client.runners.generate(
        seen,
        wanted,
        scope=scope,
        accept=verifier.accept,
        pin=verifier.pin,
        wallet=owner_home().wallet(),
    )
    if made.statement is None:
        raise RunFailed(
            f"{made.code}: {made.message}", hint="look up the error code in spec/runner.md"
        )
    try:
        run = await verify_generated(
            made.statement,
            await start_of(url),
            verifier.inspector,
            authorization=made.authorization,
        )
        _require_made_by(run, seen, policy, made.generated)
    except (BackendError, StatementInvalid):
        if made.generated:
            tell(
                "it is not proven that the approved code generated these secrets; delete the"
                f" secrets: {', '.join(made.generated)}"
            )
        raise
    print_result({"generated": made.generated, "existing": made.existing}, made.generated)
    if made.code is not None:
        raise RunFailed(
            f"{made.code}: {made.message}",
            hint="run the command again to generate the missing secrets",
        )
    if made.existing:
        raise AlreadyThere(
            f"these secrets already exist and were kept: {', '.join(made.existing)}",
            hint=f"sealspace secret delete {made.existing[0]}",
        )


def _require_made_by(
    run: VerifiedRun, seen: Seen, policy: Policy, generated: Sequence[str]
) -> None:
    """Check that the secrets were generated by the verified code (RN149)."""
    require_like(startup_evidence(run), policy)
    stated = run.stated["secrets"]
    names = (
        [one.get("name") for one in stated if isinstance(one, dict)]
        if isinstance(stated, list)
        else []
    )
    if run.stated["runner"] != seen.did or names != list(generated):
        raise StatementInvalid(
            "the runner's signed statement has a different DID than the runner, or lists"
            " different secrets than the response"
        )
