"""Commands that verify a backend and grant it access to secrets."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import click

from capabilities.capability_errors import InvalidJson
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
from sealspace.cli.options.app_name import app_name_option
from sealspace.cli.options.durations import expires_option
from sealspace.cli.options.paths import FOLDER, file_option, read_named
from sealspace.cli.options.unbound_values import allow_unbound_option
from sealspace.cli.owner.chosen_team import signing_membership
from sealspace.cli.owner.node_terms import gathering
from sealspace.cli.owner.owner_profile import at_node, owner_home
from sealspace.cli.share.grant_create import hand_over_all
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
from sealspace.documents.app_names import AppNames, code_with_sources
from sealspace.documents.iexec_names import SCOPES
from sealspace.documents.run_grants import (
    run_statement_json,
)
from sealspace.errors import (
    BackendNotAcceptable,
    BackendNotExpected,
    InvalidInput,
    NotSignedIn,
)
from sealspace.giving.words.backends import as_json, in_plain_words
from sealspace.giving.words.runs import run_grant_of, run_sentence
from sealspace.secrets import SecretName, is_protected, parse_secret_label
from sealspace.service.command_errors import ConfigurationError
from sealspace.wire.portable import PortableDelegation

from ..attestation.inspection import CollateralFolder, FetchedCollateral, Inspector
from ..attestation.trust_files import read_trust_root
from .approval import (
    allowed_names,
    approval_lines,
    code_names,
    compose_lines,
    known_compose,
    name_lines,
    shown_compose_lines,
)
from .backend_measure import SOURCE, compared, compared_lines, require_same

if TYPE_CHECKING:  # the parser of compose files needs the extra `yaml`
    from ..measuring.compose_files import ComposeFile
    from ..measuring.reference_values import Measured

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
        files: Path | None = None,
        allow: str | None = None,
        full: bool = False,
        yes: bool = False,
    ) -> None:
        self.expect = expect
        self.files = files
        self.allow = allow
        self.full = full
        self.accept = accept
        self.pin = pin
        self.yes = yes
        self.approved: Policy | None = None
        self.approved_secrets = frozenset[str]()
        if like is not None:
            self.approved, self.approved_secrets = _read_approved(like)
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
        measured = self.measured()
        if measured is None:
            return seen
        same = [str(one["name"]) for one in compared(measured, seen) if one["agrees"] is True]
        return replace(seen, same_as_files=frozenset(same))

    def measured(self) -> "Measured | None":
        """Return the values that follow from the files in `--files`, or None without the option."""
        if self.files is None:
            return None
        from ..measuring.input_folder import read_inputs
        from ..measuring.reference_values import measure

        return measure(read_inputs(self.files))

    def require(self, seen: Seen) -> None:
        """Check a backend's code against the options `--expect` and `--like`."""
        require_expected(seen, self.expect)
        if self.approved is not None:
            require_like(seen, self.approved)
        if self.files is not None and (measured := self.measured()) is not None:
            results = compared(measured, seen)
            try:
                require_same(results, self.files)
            except BackendNotExpected:
                tell(*compared_lines(results, is_full=True))
                raise

    def approval(self, seen: Seen, policy: Policy | None) -> Iterable[str]:
        """Return what helps the user to decide about a backend's code."""
        return approval_lines(seen, policy, self.measured(), is_full=self.full)

    def names_all_code(self, seen: Seen) -> bool:
        """Return whether the command options specify all of a backend's code (AT53).

        The options are `--expect` and `--like`.
        """
        by_policy = self.approved is not None and is_whole_policy(seen, self.approved)
        return by_policy or is_whole_code(seen, self.expect)

    def policy(self, seen: Seen, paths: Sequence[str] = (), *, ttl_s: float) -> Policy:
        """Return a policy that limits a grant to the verified code."""
        return policy_for(seen, paths=paths, accept=self.accept, pin=self.pin, ttl_s=ttl_s)

    def app_names(self, seen: Seen, name: str | None) -> AppNames | None:
        """Return the names to sign for a backend's code; None without the option `--name`."""
        if name is None:
            return None
        measured = self.measured()
        results = [] if measured is None else compared(measured, seen)
        return AppNames(name=name, code=code_with_sources(code_names(seen, measured), results))

    def policy_or_none(self, seen: Seen) -> Policy | None:
        """Return what would be approved, or None if the node would refuse the backend."""
        with suppress(BackendNotAcceptable):
            return self.policy(seen, ttl_s=_SHOWN_TTL_S)
        return None

    def confirm(
        self, seen: Seen, lines: Iterable[str], *, are_named: bool = True, err: bool = False
    ) -> None:
        """Ask the user to confirm a grant.

        Everything that is granted is printed first. What the code may do that is not harmless has
        a question of its own, which only `--allow` answers. The other question is not asked with
        --yes, or if the options name all the code and all that is granted (`are_named`).
        """
        is_quiet = err or shared().as_json
        compose = known_compose(seen, self.measured())
        approval = self.approval(seen, self.policy_or_none(seen))
        print_lines(*compose_lines(compose), *lines, *approval, err=is_quiet)
        if compose is not None:
            self._confirm_lines(compose)
        elif seen.verified.evidence.compose_hash is not None:
            # Otherwise an operator could hide the lines by not publishing the file (AT71).
            confirm(
                "its compose file is not published: grant without knowing what the code may do?",
                hint="name the compose file that you have read: --files COMPOSE|FOLDER",
            )
        if self.yes or (self.names_all_code(seen) and are_named):
            return
        confirm(
            "grant access to exactly this code?",
            hint="add one of these options: --like FILE (saved output of `backend show --json`),"
            " --expect for each part of the code and the key provider, or --yes (any code)",
        )

    def _confirm_lines(self, compose: "ComposeFile") -> None:
        """Ask for what a compose file allows, unless `--allow` names exactly these lines (AT71)."""
        if not compose.lines or self.allow == compose.lines_digest:
            return
        number = len(compose.lines)
        lines = "the line" if number == 1 else f"all {number} lines"
        digest = compose.lines_digest
        confirm(
            f"allow {lines} marked `allows`?",
            hint=f"read them, then add --allow {digest}; no other option answers this",
        )


class _Approved(NamedTuple):
    """The policy that approved code meets, and the secrets that this code asked for."""

    policy: Policy
    secrets: frozenset[str]


def _read_approved(file: Path) -> _Approved:
    """Read the output of `show --json`, or a policy alone."""
    try:
        value = parse_json(
            read_named(file, most_bytes=_MAX_APPROVED_BYTES), max_bytes=_MAX_APPROVED_BYTES
        )
        # The output has the policy as a member. Otherwise the whole file is the policy.
        policy = parse_policy(value.get("policy", value))
    except (InvalidJson, PolicyError):
        raise ConfigurationError(
            f"{file} is neither output of `backend show --json` nor a policy",
            hint="sealspace backend show URL --json > approved.json",
        ) from None
    secrets = value.get("secrets")
    if not isinstance(secrets, list):
        return _Approved(policy=policy, secrets=frozenset())
    return _Approved(policy=policy, secrets=frozenset(map(str, secrets)))


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
    click.option(
        "--files",
        metavar="COMPOSE|FOLDER",
        type=SOURCE,
        help="Compute the values from these files, as `backend measure` does, and require that the"
        " backend shows the same.",
    ),
    click.option(
        "--allow",
        metavar="DIGEST",
        help="Allow what the compose file allows beyond running pinned images: the digest that"
        " `show` and `backend measure` print below these lines.",
    ),
    flag_option("--full", help="Print complete hashes in comparisons."),
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
        # The code is shown in spite of the refusal, so that a person can read what is wrong.
        opening = shown_compose_lines(seen, verifier.measured())
        print_result(as_json(seen), (*opening, *in_plain_words(seen)))
        raise
    run_grants: list[Json] = []
    lines = [
        *shown_compose_lines(seen, verifier.measured()),
        *in_plain_words(seen, policy),
        *verifier.approval(seen, policy),
    ]
    for kept_grant in owner_home().grants_to(seen.did):
        grant = run_grant_of(kept_grant.portable)
        if grant is not None and seen.seen_at < grant.expires_at:
            run_grants.append(
                {"cid": kept_grant.portable.cid, "run": run_statement_json(grant.statement)}
            )
            secrets = ", ".join(secret.label for secret in grant.secrets)
            until = time_text(grant.expires_at)
            lines.append(f"you granted    {secrets} until {until}, {run_sentence(grant.statement)}")
    measured = verifier.measured()
    description = as_json(seen, policy) | {"code": code_names(seen, measured)}
    description |= allowed_names(seen, measured)
    if measured is not None:
        description["compared"] = [*compared(measured, seen)]
    command = f"backend grant {url}"
    if seen.is_runner:
        description["runGrants"] = run_grants
        command = f"runner grant {url} --secret NAME --program DID/NAME"
    print_result(description, lines)
    tell(f"to grant to exactly this code: sealspace {command}")


lifetime_option = expires_option("7d", "How long the grant lasts: 30m, 12h, 90d.")
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
@lifetime_option
@yes_option
@allow_unbound_option
@app_name_option
@flag_option("--no-hand-over", help="Store the grant, but do not send it to URL.")
@verifier_options
@at_node
async def grant(
    client: Client,
    url: str,
    verifier: BackendVerifier,
    secrets: tuple[str, ...],
    ttl_s: float,
    unbound: bool,
    app_name: str | None,
    no_hand_over: bool,
) -> None:
    """Verify the backend at URL and grant it secrets.

    The backend's code is shown, and the secrets are granted to exactly that code. The grant names
    the backend's DID and its code, and keys are released only if both match. The wallet signs the
    grant, and the backend receives it.
    """
    seen = await verifier.verify(url)
    asked_for = [secret.label for secret in seen.wanted]
    resources = client.backends.resources(seen, secrets or None)
    await require_stored(client, secrets or asked_for)
    # Checked before the question: a grant that the node would refuse to judge opens nothing.
    await client.backends.require_judgeable(seen)
    policy = verifier.policy(seen, resources, ttl_s=ttl_s)
    # A manifest is not part of the code, and may ask for more secrets than at the approval. So the
    # secrets have to be named, now or then.
    are_named = bool(secrets) or verifier.approved_secrets.issuperset(asked_for)
    app = verifier.app_names(seen, app_name)
    lines = [*in_plain_words(seen, policy), *name_lines(app, seen)]
    verifier.confirm(seen, lines, are_named=are_named)
    portable = await client.backends.grant(
        seen,
        secrets or None,
        ttl_s=ttl_s,
        accept=verifier.accept,
        pin=verifier.pin,
        unbound=unbound,
        app=app,
        wallet=owner_home().wallet(),
        membership=await signing_membership(client, unbound=unbound),
    )
    result = await deliver(url, portable, hands_over=not no_hand_over)
    document = result | {"handedOver": not no_hand_over, "seen": as_json(seen, policy)}
    if app is not None:
        document["appName"] = app.name
    print_result(document)


async def require_stored(client: Client, labels: Sequence[str]) -> None:
    """Check that the secrets of a grant are stored at the node."""
    secrets = [parse_secret_label(label) for label in labels]
    stored = {}
    for scope in {secret.scope for secret in secrets}:
        stored[scope] = await client.secrets().list(scope=scope)
    for secret in secrets:
        if secret.name not in stored[secret.scope]:
            raise _not_stored(secret)


def _not_stored(secret: SecretName) -> InvalidInput:
    """Return the error for a missing secret. Its hint says how to make the secret."""
    arguments = secret.name
    if secret.scope is not None:
        arguments += f" --scope {secret.scope}"
    if is_protected(secret.name):
        hint = f"sealspace runner generate URL {arguments}"
    else:
        hint = SCOPES.get(secret.scope, f"sealspace secret put {arguments} < FILE")
    return InvalidInput(f"there is no secret {arguments}", hint=hint)


async def deliver(url: str, portable: PortableDelegation, *, hands_over: bool = True) -> JsonObject:
    """Save a grant on this machine and send it to the backend.

    Returns the grant's CID, file and expiry time as JSON.
    """
    path = owner_home().keep_grant(portable, url=url)
    tell(f"granted {end_text(portable.expires_at)}: {portable.cid}")
    if hands_over:
        await hand_over_all(url, [portable], copies=str(path))
    return {
        "granted": portable.cid,
        "file": str(path),
        "expiresAt": optional_time(portable.expires_at),
    }
