"""Grants to the builds of a GitHub repository (PV11, PV14).

A command of the owner verifies the provenance bundle of a project's active version, and grants
secrets to the hash that the bundle proves. After a new build, it does so again and revokes the old
grant. A job does the same with its token, if the owner made one (PV15).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click
from msgspec import json, to_builtins

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import same_principal
from capabilities.strict_json import JsonObject
from sealspace.apps.backends import deliver
from sealspace.apps.programs import read_version
from sealspace.cli.exit_status import FAILED
from sealspace.cli.options.paths import read_named
from sealspace.cli.options.trusted_root import trusted_root_option
from sealspace.cli.owner.node_terms import gathering
from sealspace.cli.owner.owner_profile import owner_home, uses_machine_token
from sealspace.cli.share.grant_list import revoke_all
from sealspace.cli.terminal import flag_option, print_documents, print_error, tell, what_happened
from sealspace.client import Client
from sealspace.documents.builds import (
    GITHUB_ISSUER,
    Build,
    Commit,
    TrustedBuilds,
    repository_of,
)
from sealspace.documents.project_names import ProjectId, checked_sha256
from sealspace.documents.run_grants import (
    JOB_FACT,
    ByBuilds,
    ByHash,
    ByProject,
    ProgramRule,
    RunGrant,
    RunStatement,
)
from sealspace.documents.trusted_roots import MAX_TRUSTED_ROOT_BYTES, named_root
from sealspace.errors import InvalidInput, SealspaceError
from sealspace.giving.words.runs import run_grant_of
from sealspace.service.command_errors import NotThere
from sealspace.session import mint, read_grant
from sealspace.wire.node_answers import decoded
from sealspace.wire.portable import PortableDelegation, portable_of

from .program_commands import active_hash, project_of, reader, verified_provenance

_HASH_DIGITS = 64

Granting = Callable[[Sequence[str], RunStatement, float], Awaitable[JsonObject]]
"""Grants secrets to a runner under a run statement for some seconds, and delivers the grant."""


class WantedBuild(NamedTuple):
    """The repository, ref and workflow whose builds may get secrets."""

    repository: str | None
    ref: str | None
    workflow: str | None
    trusted_root: Path | None
    later: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether no requirement on the build is stated; a trusted root is not one."""
        requirements = (self.repository, self.ref, self.workflow)
        is_any_stated = any(requirement is not None for requirement in requirements)
        return not is_any_stated and not self.later

    @property
    def suits_job(self) -> bool:
        """Whether a job can grant to the build. A grant to later builds needs no job."""
        return self.repository is not None and not self.later


build_options = gathering(
    "wanted",
    WantedBuild,
    click.option(
        "--repository",
        metavar="REPOSITORY",
        callback=lambda _context, _option, text: None if text is None else repository_of(text),
        help="Grant only if this repository on GitHub built the active version of the project, as"
        " its provenance bundle proves: github.com/OWNER/NAME.",
    ),
    click.option("--ref", help="Full name of its branch or tag, such as refs/heads/main."),
    click.option(
        "--workflow",
        metavar="FILE",
        help="Workflow that built the program: github.com/OWNER/NAME/.github/workflows/FILE."
        " Default: any workflow of the repository.",
    ),
    trusted_root_option,
    flag_option(
        "--later-builds",
        "later",
        help="With --repository and a --trusted-root FILE: grant also to later builds of the same"
        " repository, ref and workflows. The runner verifies each build when it becomes the active"
        " version, and admits no build that is older than one that it has admitted.",
    ),
)
"""Adds the options for a build, passed to the command as one argument `wanted`."""


async def program_rules(
    client: Client, programs: Sequence[str], wanted: WantedBuild, *, follows: bool
) -> tuple[ProgramRule, ...]:
    """Return the rules of a grant: which programs may use the secrets.

    Args:
        client: a client of the node that has the projects.
        programs: the programs as typed: `DID/NAME`, or the SHA-256 of the code in hex.
        wanted: the repository, ref and workflow that a program must have been built from. If
            anything is stated, the grant is for one program, whose build is verified (PV14).
        follows: whether the grant is for all later versions of a project, too.
    """
    if wanted.is_empty:
        return tuple(
            [await _rule_for_program(client, program, follows=follows) for program in programs]
        )
    # A verified build is one version of one program. Later versions are other builds.
    if wanted.repository is None or follows or len(programs) > 1:
        raise click.UsageError(
            "a grant for a build requires --repository, --ref and one --program DID/NAME, without"
            " --follow"
        )
    if wanted.later and wanted.trusted_root is None:
        raise click.UsageError(
            "--later-builds requires --trusted-root FILE: the runner has to have the same file"
        )
    project = project_of(programs[0])
    active_rule = await _rule_for_active_build(client, project, wanted)
    if not wanted.later or wanted.trusted_root is None:
        return (active_rule,)
    later_rule = await _rule_for_later_builds(
        client, project, active_rule.wasm_sha256, wanted.trusted_root
    )
    return (later_rule,)


async def _rule_for_later_builds(
    client: Client, project: ProjectId, sha256: str, trusted_root: Path
) -> ByBuilds:
    """Return a rule for the active build of a project and all later ones (PV17).

    The active build was verified before, and is the oldest that the rule admits.
    """
    from sealspace.apps.provenance import (  # needs the extra `provenance`
        parse_trusted_root,
        verify_origin,
    )

    root = named_root(read_named(trusted_root, most_bytes=MAX_TRUSTED_ROOT_BYTES))
    read = reader(client, project)
    version = await read_version(read, project, sha256)
    bundle = await read(project.provenance_key(sha256))
    if version is None or bundle is None:  # removed since it was verified
        raise NotThere(
            f"{project.text} has no version {sha256} with a provenance bundle",
            hint="run the command again",
        )
    origin = verify_origin(bundle, sha256, parse_trusted_root(root.document))
    # PV9: GitHub started a workflow of the repository; a grant also names its ref (PV17)
    source_workflow, _, source_ref = origin.source_workflow.partition("@")
    if source_ref != origin.build.ref:
        raise InvalidInput(
            f"GitHub started the workflow of another ref than {origin.build.ref}: {source_ref}",
            hint="grant to this build alone, without --later-builds",
        )
    builds = TrustedBuilds(
        repository=origin.build.repository,
        repository_id=origin.build.repository_id,
        ref=origin.build.ref,
        source_workflow=source_workflow,
        signer=origin.signer,
        target=version.target,
        issuer=GITHUB_ISSUER,
        trusted_root=root.sha256,
        least_run=origin.run,
        least_attempt=origin.attempt,
    )
    return ByBuilds(project, builds)


async def _rule_for_active_build(client: Client, project: ProjectId, wanted: WantedBuild) -> ByHash:
    """Return a rule for a project's active version, with its verified build (PV11)."""
    from sealspace.apps.provenance import require_build  # needs the extra `provenance`

    sha256 = await active_hash(client, project)
    provenance = await verified_provenance(client, project, sha256, wanted.trusted_root)
    build = provenance.build
    repository = wanted.repository or build.repository
    # Another repository may have taken the name since the last grant, but not the number. The
    # number in the grant that ends last counts. An older grant may have been revoked: the node
    # forgets a revocation long after the end of the grant.
    known_id: str | None = None
    for granted in await _build_grants(client):
        if granted.build.repository.lower() == repository.lower():  # GitHub ignores capitals
            known_id = granted.build.repository_id
    require_build(
        build,
        repository=repository,
        ref=build.ref if wanted.ref is None else wanted.ref,
        repository_id=known_id,
        workflow=wanted.workflow,
    )
    if wanted.ref is None:
        raise InvalidInput(
            "--repository requires --ref, the branch or tag that you trust",
            hint=f"if you trust the ref of this build: --ref {build.ref}",
        )
    return ByHash(sha256, project=project, build=build)


async def _rule_for_program(client: Client, text: str, *, follows: bool) -> ProgramRule:
    """Return a grant rule for a program.

    The rule is for the program's current hash, or for all versions of its project.
    """
    if "/" not in text and len(text) == _HASH_DIGITS:
        if follows:
            raise InvalidInput(
                "--follow needs a project name: a hash names only one version",
                hint="write the project as DID/NAME",
            )
        return ByHash(checked_sha256(text, what="--program"))
    project = project_of(text)
    sha256 = await active_hash(client, project)  # refuses a project without an active version
    if follows:
        return ByProject(project)
    tell(f"granting version {sha256} of {project.text}; a later version needs a new grant")
    return ByHash(sha256, project)


# --- refreshing -----------------------------------------------------------------------------------


class _BuildGrant(NamedTuple):
    """A grant to one build of a repository."""

    portable: PortableDelegation
    grant: RunGrant
    sha256: str
    project: ProjectId
    build: Build


async def _build_grants(client: Client) -> list[_BuildGrant]:
    """Return the owner's grants to builds that were made on this machine (PV14).

    Revoked grants are left out. The grant that ends first comes first. For a job, this is the job
    grant alone (PV15).
    """
    session = client.session
    revoked = set[str]()
    build_grants = []
    if uses_machine_token():
        # The session of a job has its job grant alone.
        portables = [portable_of(session.grants[0], owner=session.owner, host=client.url)]
    else:
        records = client.delegations.query(direction="granted", status="revoked")
        revoked = {record.cid async for record in records}
        portables = [saved.portable for saved in owner_home().grants()]
    for portable in portables:
        grant = run_grant_of(portable)
        if grant is None or not same_principal(grant.owner, session.owner):
            continue
        if portable.cid in revoked:
            continue
        match grant.statement.programs:
            case (ByHash(sha256, ProjectId() as project, Build() as build),):
                build_grants.append(
                    _BuildGrant(
                        portable=portable,
                        grant=grant,
                        sha256=sha256,
                        project=project,
                        build=build,
                    )
                )
    return sorted(build_grants, key=lambda build_grant: build_grant.grant.expires_at)


async def refresh(
    client: Client,
    url: str,
    runner: str,
    wanted: WantedBuild,
    grant: Granting,
    *,
    everything: bool,
    ttl_s: float,
) -> int:
    """Replace the grants to former builds by grants to the active ones (PV11, PV14).

    Args:
        client: client of the owner.
        url: address of the runner.
        runner: DID of the runner, whose code is verified.
        wanted: the repository whose grants to refresh, and the trusted root.
        grant: function that grants secrets to the runner.
        everything: whether to refresh the grants for all repositories.
        ttl_s: lifetime of a new grant if the old one does not state when it began.
    Returns:
        The exit status. A grant whose new build is refused stays as it is.
    """
    live_grants = []
    for old in await _build_grants(client):
        is_for_runner = old.portable.delegate_did in (runner, client.session.did)
        is_live = old.grant.expires_at > SystemClock.now()
        is_wanted = wanted.repository in (None, old.build.repository)
        if is_for_runner and is_live and is_wanted:
            live_grants.append(old)
    names = {old.build.repository for old in live_grants}
    if not names or (len(names) > 1 and not everything):
        raise InvalidInput(
            "this machine made live grants to this runner for builds of"
            f" {', '.join(sorted(names)) or 'no repository'}",
            hint="name one repository with --repository, or refresh all with --all; to make a"
            " grant, leave out --refresh",
        )
    results = []
    status = 0
    for old in live_grants:
        build = old.build
        same_source = WantedBuild(
            repository=build.repository,
            ref=build.ref,
            workflow=build.workflow,
            trusted_root=wanted.trusted_root,
        )
        result = to_builtins(build) | {"project": old.project.text}
        try:
            active = await _rule_for_active_build(client, old.project, same_source)
            result |= await _refresh_grant(client, url, old, active, grant, ttl_s)
        except SealspaceError as error:
            status = FAILED
            result["change"] = f"failed: {what_happened(error)}"
            print_error(f"{build.repository}: the old grant stays: {error.message}", error.step)
        results.append(result)
    print_documents(results, {name: name for name in ("repository", "ref", "project", "change")})
    return status


async def _refresh_grant(
    client: Client, url: str, old: _BuildGrant, active: ByHash, grant: Granting, ttl_s: float
) -> JsonObject:
    """Grant to the active build what an old grant allows, and revoke a grant to another build.

    Returns the new grant as JSON, with the member `change` for a person.
    """
    terms = old.grant
    if active.build and terms.statement.refresh_for:  # a job grant
        last_commit = await _refresh_by_job(client, url, old, active, active.build.commit)
        return {"change": f"{last_commit} → {active.build.commit}"}
    new_statement = terms.statement
    change = "unchanged"
    if active.build and active.wasm_sha256 != old.sha256:
        new_statement = replace(terms.statement, programs=(active,))
        change = f"{old.build.commit} → {active.build.commit}"
    # The grants are read again, because refreshing an older grant may have made one that serves
    # for this one, too.
    build_grants = await _build_grants(client)
    if old not in build_grants:  # a revocation meanwhile must not be undone (PV16)
        return {"change": "revoked meanwhile"}
    equal_grants = _grants_that_allow_the_same(build_grants, old, new_statement)
    issued_at = terms.delegation.issued_at
    life_s = ttl_s if issued_at is None else terms.expires_at - issued_at
    new_grant: JsonObject = {}
    last_left_s = 0.0
    if equal_grants:
        last_left_s = equal_grants[-1].grant.expires_at - SystemClock.now()
    # A grant that has at least half of its life left is not replaced.
    if equal_grants and 2 * last_left_s >= life_s:
        # It is sent again: an earlier attempt may have failed before the runner got it.
        await deliver(url, equal_grants[-1].portable)
    else:
        labels = [secret.label for secret in terms.secrets]
        new_grant = await grant(labels, new_statement, life_s)
    # The old grant is revoked last, so that the runner always has one for one of the builds.
    if new_statement != terms.statement:
        await revoke_all(client, [old.portable.cid])
        new_grant["revoked"] = old.portable.cid
    return new_grant | {"change": change}


def _grants_that_allow_the_same(
    build_grants: Sequence[_BuildGrant], old: _BuildGrant, new_statement: RunStatement
) -> list[_BuildGrant]:
    """Return the grants that already allow exactly what a new grant in place of `old` would."""
    equal_grants = []
    for candidate in build_grants:
        is_for_same_key = candidate.portable.delegate_did == old.portable.delegate_did
        is_same_statement = candidate.grant.statement == new_statement
        is_same_secrets = candidate.grant.secrets == old.grant.secrets
        if is_for_same_key and is_same_statement and is_same_secrets:
            equal_grants.append(candidate)
    return equal_grants


_FORMER = json.Decoder(dict[str, Commit])
"""CID of a former grant of a job -> the commit of its build. The grant that was used until now is
first (RN247)."""


async def _refresh_by_job(
    client: Client, url: str, old: _BuildGrant, active: ByHash, commit: str
) -> str:
    """Grant to the active build by a job grant, and revoke the former grants (RN246, RN247).

    Returns the commit of the build that was granted until now, or "none".
    """
    job = old.grant
    session = client.session
    header = mint(
        session.signer,
        SystemEntropy(),
        audience=str(job.statement.refresh_for),
        capabilities=job.delegation.capabilities,
        proofs=[old.portable.cid],
        expires_at=job.expires_at,
        facts=[{JOB_FACT: job.header, "wasmSha256": active.wasm_sha256, "commit": commit}],
        issuer=session.did,
    )
    # This command does not register the grant at the node. The runner does, so that it has each
    # grant of the job that is in force at the node.
    portable = portable_of(read_grant(header), owner=job.owner, host=client.url)
    answer = await deliver(url, portable)
    commit_of_former = decoded(_FORMER, answer, "the former grants of the job")
    await client.delegations.revoke(*commit_of_former)
    commits = [*commit_of_former.values()]
    return commits[0] if commits else "none"
