"""Commands that grant secrets to a runner, share programs with it, and have it generate secrets."""

from collections.abc import Iterable, Sequence
from functools import partial

import click

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import JsonObject
from encryption_network.policy import Policy
from runner.calls.generated_secrets import verify_generated
from runner.calls.run_receipts import VerifiedRun
from runner.cli.program_commands import active_hash, project_of
from runner.cli.repository_grants import WantedBuild, build_options, program_rules, refresh
from sealspace.apps.backends import (
    Seen,
    require_like,
)
from sealspace.apps.runners import network_name, start_of
from sealspace.cli.keep.named_secrets import scope_option
from sealspace.cli.owner.contact_names import naming
from sealspace.cli.owner.owner_profile import at_node, owner_home
from sealspace.cli.terminal import (
    flag_option,
    print_result,
    repeatable_option,
    tell,
)
from sealspace.client import Client
from sealspace.documents.call_conditions import Owner
from sealspace.documents.generation_grants import generation_body
from sealspace.documents.project_names import checked_project_name
from sealspace.documents.run_grants import (
    GrantLimits,
    RunStatement,
    checked_host,
    run_statement_json,
)
from sealspace.errors import (
    BackendError,
    InvalidInput,
    StatementInvalid,
)
from sealspace.giving.words.backends import as_json, in_plain_words
from sealspace.giving.words.runs import run_words
from sealspace.secrets import is_reserved, parse_secret_label
from sealspace.service.command_errors import AlreadyThere, RunFailed
from sealspace.wire.token_line import token_line
from tee_backend.cli.granting import (
    BackendVerifier,
    deliver,
    lifetime_option,
    require_stored,
    verifier_options,
    yes_option,
)
from tee_backend.cli.provided_receipts import startup_evidence

from .run_grants import CallerTerms, condition_options, confirm_callers, limit_options


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
@flag_option(
    "--allow-unbound",
    help="Deliver secrets that do not say where they belong, too: an earlier version or another"
    " client stored them. Whoever may write one of them can then pass off another secret of yours.",
)
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
@lifetime_option
@yes_option
@verifier_options
@naming(projects=["programs"])
@at_node
async def grant_runner(
    client: Client,
    url: str,
    verifier: BackendVerifier,
    secrets: tuple[str, ...],
    programs: tuple[str, ...],
    follows: bool,
    callers: CallerTerms,
    hosts: tuple[str, ...],
    limits: GrantLimits,
    allow_unbound: bool,
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
        texts = (secrets, programs, hosts, wanted.ref, wanted.workflow)
        flags = (wanted.later, follows, allow_unbound, for_job)
        has_conditions = callers.condition != Owner() or limits != GrantLimits()
        if any(texts) or any(flags) or has_conditions:
            raise click.UsageError("--refresh changes the build alone: leave out other terms")
        seen = await verifier.verify(url)
        grant = partial(_confirm_and_grant, client, url, verifier, seen)
        return await refresh(
            client, url, seen.did, wanted, grant, everything=everything, ttl_s=ttl_s
        )
    if everything:
        raise click.UsageError("--all requires --refresh")
    if for_job and not wanted.suits_job:
        raise click.UsageError("--for-job requires --repository; leave out --later-builds")
    if not secrets or not programs:
        raise click.UsageError("name what to grant: --secret NAME and --program SHA256|DID/NAME")
    secret_names = [parse_secret_label(label) for label in secrets]
    for secret in secret_names:
        if is_reserved(secret.name):
            raise InvalidInput(
                f"{secret.label} is a reserved name", hint="store the secret under another name"
            )
    network_name(secret_names)  # refuses secrets of two networks: one grant covers one network
    rules = await program_rules(client, programs, wanted, follows=follows)
    seen = await verifier.verify(url)
    run = RunStatement(
        callers=callers.condition,
        hosts=tuple([checked_host(host) for host in hosts]),
        limits=limits,
        programs=rules,
        allows_unbound=allow_unbound,
        refresh_for=seen.did if for_job else None,
    )
    await confirm_callers(client, callers, secrets, yes=verifier.yes)
    result = await _confirm_and_grant(client, url, verifier, seen, secrets, run, ttl_s)
    print_result(result, [str(result["token"])] if for_job else ())
    return 0


async def _confirm_and_grant(
    client: Client,
    url: str,
    verifier: BackendVerifier,
    seen: Seen,
    secrets: Sequence[str],
    run: RunStatement,
    ttl_s: float,
) -> JsonObject:
    """Grant secrets to a verified runner or to a job, after a confirmation.

    Returns the delivered grant as JSON. The grant of a job has the member `token`.
    """
    await require_stored(client, secrets)
    # Checked before the question: a grant that the node would refuse to judge opens nothing.
    await client.backends.require_judgeable(seen)
    paths = []
    for label in secrets:
        secret = parse_secret_label(label)
        paths.append(client.secrets().resource(secret.name, scope=secret.scope))
    policy = verifier.policy(seen, paths, ttl_s=ttl_s)
    verifier.confirm(seen, (*in_plain_words(seen, policy), *run_words(run)))
    seed = None
    job = None
    if run.refresh_for:  # the grant is for the new key of a job, and not for the runner
        seed = SystemEntropy().token(32)
        job = Ed25519Signer(seed).did
    portable = await client.runners.grant(
        seen,
        secrets,
        run,
        ttl_s=ttl_s,
        accept=verifier.accept,
        pin=verifier.pin,
        wallet=owner_home().wallet(),
        job=job,
    )
    result = await deliver(url, portable, hands_over=seed is None)
    if seed is not None:
        node = await client.info()
        result["token"] = token_line(seed, node.node_id, portable.header)
    return result | {"run": run_statement_json(run), "seen": as_json(seen, policy)}


@click.command(
    "share",
    epilog="Example: `sealspace project publish digest digest.wasm --private`, then `sealspace"
    " project share https://runner.example digest`. To stop sharing: `sealspace runner revoke"
    " https://runner.example`.",
)
@lifetime_option
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
    project = project_of(checked_project_name(name))
    await active_hash(client, project)  # refuses a project without an active version
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
    types_by_name = _parse_types(names)
    # Called only for its refusals, before a quote is requested. The body of the request is made
    # below.
    generation_body(client.session.owner, scope, types_by_name)
    seen = await verifier.verify(url)
    policy = verifier.policy(seen, ttl_s=_GENERATE_TTL_S)
    verifier.confirm(seen, in_plain_words(seen, policy), err=True)
    answer = await client.runners.generate(
        seen,
        types_by_name,
        scope=scope,
        accept=verifier.accept,
        pin=verifier.pin,
        wallet=owner_home().wallet(),
    )
    if answer.statement is None:
        raise RunFailed(
            f"{answer.code}: {answer.message}", hint="look up the error code in spec/runner.md"
        )
    try:
        run = await verify_generated(
            answer.statement,
            await start_of(url),
            verifier.inspector,
            authorization=answer.authorization,
        )
        _require_made_by(run, seen, policy, answer.generated)
    except (BackendError, StatementInvalid):
        if answer.generated:
            tell(
                "it is not proven that the approved code generated these secrets; delete the"
                f" secrets: {', '.join(answer.generated)}"
            )
        raise
    print_result({"generated": answer.generated, "existing": answer.existing}, answer.generated)
    if answer.code is not None:
        raise RunFailed(
            f"{answer.code}: {answer.message}",
            hint="run the command again to generate the missing secrets",
        )
    if answer.existing:
        raise AlreadyThere(
            f"these secrets already exist and were kept: {', '.join(answer.existing)}",
            hint=f"sealspace secret delete {answer.existing[0]}",
        )


def _parse_types(texts: Iterable[str]) -> dict[str, str]:
    """Return the type of each secret by its name; each text is NAME or NAME:TYPE."""
    types_by_name: dict[str, str] = {}
    for text in texts:
        name, _, kind = text.partition(":")
        if name in types_by_name:
            raise InvalidInput(f"{name} is named twice", hint="name each secret once")
        types_by_name[name] = kind or "hex32"
    return types_by_name


def _require_made_by(
    run: VerifiedRun, seen: Seen, policy: Policy, generated: Sequence[str]
) -> None:
    """Check that the secrets were generated by the verified code (RN149)."""
    require_like(startup_evidence(run), policy)
    stated_names = []
    stated_secrets = run.stated["secrets"]
    if isinstance(stated_secrets, list):
        for secret in stated_secrets:
            if isinstance(secret, dict):
                stated_names.append(secret.get("name"))
    if run.stated["runner"] != seen.did or stated_names != list(generated):
        raise StatementInvalid(
            "the runner's signed statement has a different DID than the runner, or lists"
            " different secrets than the response"
        )
