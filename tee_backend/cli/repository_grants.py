"""Grants to the builds of a GitHub repository (PV11, PV14).

A command of the owner verifies the provenance bundle of a project's active version, and grants
secrets to the hash that the bundle proves. After a new build, it does so again and revokes the old
grant.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import msgspec

from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import same_principal
from capabilities.strict_json import Json
from sealspace.apps.descriptions import run_grant_of
from sealspace.cli.command_errors import NotThere
from sealspace.cli.exit_status import FAILED
from sealspace.cli.grant_create import hand_over_all
from sealspace.cli.grant_list import revoke_all, state_at_node
from sealspace.cli.node_terms import gathering
from sealspace.cli.owner_profile import owner_home
from sealspace.cli.terminal import print_error, print_result, tell, what_happened
from sealspace.cli.trusted_root import load_trusted_root, trusted_root_option
from sealspace.client import Client
from sealspace.documents.builds import Build, repository_of
from sealspace.documents.project_names import ProjectId, checked_sha256
from sealspace.documents.run_grants import ByHash, ByProject, ProgramRule, RunGrant, RunStatement
from sealspace.errors import InvalidInput, SealspaceError
from sealspace.wire.portable import PortableDelegation

from .program_commands import active_hash, project_of, proven

if TYPE_CHECKING:
    from sigstore.models import TrustedRoot

Granting = Callable[[Sequence[str], RunStatement, float], Awaitable[dict[str, Json]]]
"""Grants secrets to the runner under a run statement for some seconds, and delivers the grant."""


class WantedBuild(NamedTuple):
    """The repository, ref and workflow whose builds may get secrets."""

    repository: str | None
    ref: str | None
    workflow: str | None
    trusted_root: Path | None


build_options = gathering(
    "wanted",
    WantedBuild,
    click.option(
        "--repository",
        metavar="REPOSITORY",
        callback=lambda _context, _option, text: text and repository_of(text),
        help="Grant only if this repository on GitHub built the active version of the project, as"
        " its provenance bundle proves: github.com/OWNER/NAME.",
    ),
    click.option("--ref", help="Branch or tag of the build, such as refs/heads/main."),
    click.option(
        "--workflow",
        metavar="FILE",
        help="Workflow that built the program: github.com/OWNER/NAME/.github/workflows/FILE."
        " Default: any workflow of the repository.",
    ),
    trusted_root_option,
)
"""Adds the options for a build, passed to the command as one argument `wanted`."""


async def program_rules(
    client: Client, programs: Sequence[str], wanted: WantedBuild, *, follows: bool
) -> tuple[ProgramRule, ...]:
    """Return the rules of a grant for programs.

    With a repository, the build of the one program is verified, and named as a label (PV14).
    """
    rules = tuple([await _program(client, one, follows=follows) for one in programs])
    if wanted.repository is None:
        if wanted.ref or wanted.workflow:
            raise click.UsageError("--ref and --workflow require --repository")
        return rules
    match rules:
        case (ByHash(sha256, ProjectId() as project),):
            root = load_trusted_root(wanted.trusted_root)
            build = (await proven(client, project, sha256, root)).build
            known = {
                one.build.repository_id
                for one in await _labelled(client)
                if one.build.repository == wanted.repository and one.state != "revoked"
            }
            for repository_id in known or (None,):
                _require(build, wanted, repository_id)
            if wanted.ref is None:
                raise InvalidInput(
                    "--repository requires --ref, the branch or tag that you trust",
                    hint=f"if you trust the ref of this build: --ref {build.ref}",
                )
            return (ByHash(sha256, project, build),)
    raise click.UsageError("--repository requires exactly one --program DID/NAME, not --follow")


async def _program(client: Client, text: str, *, follows: bool) -> ProgramRule:
    """Return a grant rule for a program.

    The rule is for the program's current hash, or for all versions of its project.
    """
    if "/" not in text and len(text) == 64:
        if follows:
            raise InvalidInput(
                "--follow needs a project name: a hash names only one version",
                hint="write the project as DID/NAME",
            )
        return ByHash(checked_sha256(text, what="--program"))
    project = project_of(text)
    sha256 = await active_hash(client, project)
    if follows:
        return ByProject(project)
    tell(f"granting version {sha256} of {project.text}; a later version needs a new grant")
    return ByHash(sha256, project)


def _require(build: Build, wanted: WantedBuild, repository_id: str | None) -> None:
    """Check that a verified build is the wanted one (PV11)."""
    from sealspace.apps.provenance import require_build  # needs the extra `provenance`

    require_build(
        build,
        repository=wanted.repository or build.repository,
        ref=wanted.ref or build.ref,
        repository_id=repository_id,
        workflow=wanted.workflow,
    )


# --- refreshing -----------------------------------------------------------------------------------


class _Labelled(NamedTuple):
    """A grant to one build of a repository, with its state at the node."""

    portable: PortableDelegation
    grant: RunGrant
    state: str
    sha256: str
    project: ProjectId
    build: Build


async def _labelled(client: Client) -> list[_Labelled]:
    """Return the owner's grants to builds, as saved on this machine (PV14)."""
    found = []
    for _, portable in owner_home().grants():
        grant = run_grant_of(portable)
        if grant is not None and same_principal(grant.owner, client.session.owner):
            match grant.statement.programs:
                case (ByHash(sha256, ProjectId() as project, Build() as build),):
                    state = await state_at_node(client, portable.cid)
                    found.append(_Labelled(portable, grant, state, sha256, project, build))
    return found


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

    A new grant differs from the old one in the build alone.

    Returns:
        The exit status. If a bundle is refused, the grants that depend on it stay as they are.
    """
    groups: dict[object, list[_Labelled]] = {}
    for one in await _labelled(client):
        if (
            one.state == "active"
            and one.portable.delegate_did == runner
            and wanted.repository in (None, one.build.repository)
        ):
            key = (
                one.project,
                msgspec.structs.replace(one.build, commit=""),
                replace(one.grant.statement, programs=()),
                frozenset(one.grant.secrets),
            )
            groups.setdefault(key, []).append(one)
    if not groups:
        raise NotThere(
            "no live grant to this runner for a build of a repository was made on this machine",
            hint=f"sealspace runner grant {url} --repository REPOSITORY --ref REF --secret NAME"
            " --program DID/NAME",
        )
    names = {group[0].build.repository for group in groups.values()}
    if len(names) > 1 and not everything:
        raise InvalidInput(
            f"you granted secrets to builds of {', '.join(sorted(names))}",
            hint="name one of them with --repository, or all with --all",
        )
    root = load_trusted_root(wanted.trusted_root)
    found: list[dict[str, Json]] = []
    status = 0
    for group in groups.values():
        shown: dict[str, Json] = {
            "repository": group[0].build.repository,
            "ref": group[0].build.ref,
            "project": group[0].project.text,
        }
        try:
            shown |= await _refreshed(client, url, group, root, grant, ttl_s)
        except SealspaceError as error:
            status, shown["error"] = FAILED, error.message
            print_error(
                f"{shown['repository']} is not refreshed, and its old grant stays:"
                f" {what_happened(error)}",
                error.step,
            )
        found.append(shown)
    print_result(
        found,
        [
            f"{one['repository']} {one['ref']} of {one['project']}: {one.get('change', 'FAILED')}"
            for one in found
        ],
    )
    return status


async def _refreshed(
    client: Client,
    url: str,
    group: list[_Labelled],
    root: "TrustedRoot",
    grant: Granting,
    ttl_s: float,
) -> dict[str, Json]:
    """Verify the active build, grant to it, and revoke the grants to former builds."""
    last = max(group, key=_end)
    sha256, label = await active_hash(client, last.project), last.build
    build = (await proven(client, last.project, sha256, root)).build
    wanted = WantedBuild(label.repository, label.ref, label.workflow, None)
    _require(build, wanted, label.repository_id)
    former = [one for one in group if one.sha256 != sha256]
    current = max((one for one in group if one.sha256 == sha256), key=_end, default=None)
    issued_at = last.grant.delegation.issued_at
    life_s = ttl_s if issued_at is None else _end(last) - issued_at
    change = "unchanged" if current else f"{label.commit} → {build.commit}"
    if current is None or 2 * (_end(current) - SystemClock.now()) < life_s:
        run = replace(last.grant.statement, programs=(ByHash(sha256, last.project, build),))
        shown = await grant([one.label for one in last.grant.secrets], run, life_s)
    else:
        # Sent again: an earlier attempt may have failed before the runner got this grant.
        kept = owner_home().keep_grant(current.portable, url=url)
        await hand_over_all(url, [current.portable], kept=str(kept))
        shown = {}
    # Last, so that the runner always has a grant for one of the builds.
    revoked = [one.portable.cid for one in former]
    await revoke_all(client, revoked)
    return shown | {"commit": build.commit, "change": change, "revoked": [*revoked]}


def _end(one: _Labelled) -> float:
    return one.grant.expires_at
