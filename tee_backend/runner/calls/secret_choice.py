"""Which grant each secret of a run is read by (RN80 to RN83). Pure: what is held is passed in.

For each name one grant is chosen that names the secret, the program and the caller; it alone is cited in the reads, so
that its policy, and no looser one of another grant, is what the node judges by. Grants that came later go first.

Example:
    for name, grants in choose(held, call, scope=None, project=project, active_of=project, names=None).items(): ...
"""

from collections.abc import Iterable, Mapping, Sequence

from sealspace.documents.call_conditions import Call, Verdict, judge_call
from sealspace.documents.project_names import ProjectId
from sealspace.documents.run_grants import RunGrant

from ..reasons import RunRefused


def choose(
    held: Iterable[RunGrant],
    call: Call,
    *,
    scope: str | None,
    project: ProjectId | None,
    active_of: ProjectId | None,
    names: tuple[str, ...] | None,
) -> Mapping[str, Sequence[RunGrant]]:
    """Return for each secret the grants by which it may be read, the first one first.

    Args:
        held: the newest first.
        call: of which program, by whom, and whose secrets.
        scope: of the secrets.
        project: as a version of which the program is called; None: by its hash.
        active_of: the same project where it is called as its active version; else None.
        names: of the secrets that the program wants, as its manifest says; None: it does not say.
    Returns:
        Name to at least one grant; names in ascending order.
    Raises:
        RunRefused: `secrets-not-granted`: none of the profile is granted to this runner for this program, and the owner
            calls; `access-denied`, `access-unknown`: the conditions on callers do not hold, or cannot be judged;
            `grant-no-project`: each grant states hosts and names no project; `secret-missing`: the manifest names a
            secret that is not granted.
    """
    verdicts: dict[Verdict, list[tuple[RunGrant, bool]]] = {True: [], False: [], None: []}
    for grant in held:
        rules = grant.statement.rules_for(call.wasm_sha256, project, active_of)
        # RN80: of this owner and profile, for this program, and not ended
        if (
            grant.owner == call.owner
            and call.now < grant.expires_at
            and any(secret.scope == scope for secret in grant.secrets)
            and rules
        ):
            # RN176: whether the grant says whose manifest counts for the program
            names_project = any(rule.project for rule in rules)
            verdicts[judge_call(grant.statement.callers, call)].append((grant, names_project))
    if not any(verdicts.values()):  # others than the owner do not learn what was granted
        raise RunRefused("secrets-not-granted" if call.caller == call.owner else "access-denied")
    if not verdicts[True]:  # RN81: only True lets a call pass
        raise RunRefused("access-unknown" if verdicts[None] else "access-denied")
    # RN176: any client may publish the same bytes under a project of its own, with other hosts. Hosts that were granted
    # without a project would be bounded by the manifest of whichever project the caller chooses.
    usable = [(grant, names_it) for grant, names_it in verdicts[True] if names_it or not grant.statement.hosts]
    if not usable:
        raise RunRefused("grant-no-project")
    candidates: dict[str, list[RunGrant]] = {}
    for grant, _ in usable:
        for secret in grant.secrets:
            if secret.scope == scope:
                candidates.setdefault(secret.name, []).append(grant)
    # RN82: those that the program names, and no others, where a grant says whose manifest counts (RN176)
    if names is not None and any(names_it for _, names_it in usable):
        if missing := [name for name in names if name not in candidates]:
            raise RunRefused("secret-missing", missing[0])
        candidates = {name: candidates[name] for name in names}
    return dict(sorted(candidates.items()))
