"""Which grant each secret of a run is read by (RN80 to RN83). Pure: what is held is passed in.

For each name one grant is chosen that names the secret, the program and the caller; it alone is cited in the reads, so
that its policy, and no looser one of another grant, is what the node judges by. Grants that came later go first.

Example:
    for name, grants in choose(held, wanted).items(): ...
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from capabilities.principals import same_principal
from sealspace.documents.call_conditions import Call, Verdict, judge_call
from sealspace.documents.project_names import ProjectId
from sealspace.documents.run_grants import ProgramRule, RunGrant

from ..reasons import RunRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run wants to have."""

    call: Call
    scope: str | None
    project: ProjectId | None
    active_of: ProjectId | None
    names: tuple[str, ...] | None


def choose(held: Iterable[RunGrant], wanted: Wanted) -> Mapping[str, Sequence[RunGrant]]:
    """Return for each secret the grants by which it may be read, the first one first.

    Args:
        held: the newest first.
        wanted: for which program and caller.
    Returns:
        Name to at least one grant; names in ascending order.
    Raises:
        RunRefused: `secrets-not-granted`: none of the profile is granted to this runner for this program, and the owner
            calls; `access-denied`, `access-unknown`: the conditions on callers do not hold, or cannot be judged;
            `grant-no-project`: each grant states hosts and names no project; `secret-missing`: the manifest names a
            secret that is not granted.
    """
    fitting = [grant for grant in held if _fits(grant, wanted)]
    if not fitting:  # others than the owner do not learn what was granted
        is_owner = same_principal(wanted.call.caller, wanted.call.owner)
        raise RunRefused("secrets-not-granted" if is_owner else "access-denied")
    verdicts: dict[Verdict, list[RunGrant]] = {True: [], False: [], None: []}
    for grant in fitting:
        verdicts[judge_call(grant.statement.callers, wanted.call)].append(grant)
    if not verdicts[True]:  # RN81: only True lets a call pass
        raise RunRefused("access-unknown" if verdicts[None] else "access-denied")
    # RN176: any client may publish the same bytes under a project of its own, with other hosts. Hosts that were granted
    # without a project would be bounded by the manifest of whichever project the caller chooses.
    usable = [grant for grant in verdicts[True] if _names_project(grant, wanted) or not grant.statement.hosts]
    if not usable:
        raise RunRefused("grant-no-project")
    candidates: dict[str, list[RunGrant]] = {}
    for grant in usable:
        for secret in grant.secrets:
            if secret.scope == wanted.scope:
                candidates.setdefault(secret.name, []).append(grant)
    # RN82: those that the program names, and no others, where a grant says whose manifest counts (RN176)
    if wanted.names is not None and any(_names_project(grant, wanted) for grant in usable):
        if missing := [name for name in wanted.names if name not in candidates]:
            raise RunRefused("secret-missing", missing[0])
        candidates = {name: candidates[name] for name in wanted.names}
    return dict(sorted(candidates.items()))


def _fits(grant: RunGrant, wanted: Wanted) -> bool:
    """Return whether a grant is of this owner and profile, for this program, and has not ended (RN80)."""
    return (
        same_principal(grant.owner, wanted.call.owner)
        and wanted.call.now < grant.expires_at
        and any(secret.scope == wanted.scope for secret in grant.secrets)
        and bool(_rules(grant, wanted))
    )


def _names_project(grant: RunGrant, wanted: Wanted) -> bool:
    """Return whether the grant says whose manifest counts for the program (RN176)."""
    return any(rule.project for rule in _rules(grant, wanted))


def _rules(grant: RunGrant, wanted: Wanted) -> list[ProgramRule]:
    """Return the rules of a grant that name the program."""
    return grant.statement.rules_for(wanted.call.wasm_sha256, wanted.project, wanted.active_of)
