"""Decisions about which run grants admit a call (RN80 to RN83, RN242, RN250).

Any stranger may have a runner hold grants with costly conditions. So a condition is judged once
for a call, only for a call that has its place, and one at a time for all payers of a share. Those
of unknown payers take at most a fifth of the event loop's time.

Example:
    judge = ConditionJudge()
    verdict = await judge.verdict(grant.statement.callers, call, payer)
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import NamedTuple

from capabilities.clock_and_entropy import SystemClock
from sealspace.documents.call_conditions import (
    Call,
    Condition,
    Verdict,
    judge_call,
    require_bounded_patterns,
)
from sealspace.documents.project_names import ProjectId
from sealspace.documents.run_grants import ByHash, ProgramRule, RunGrant
from sealspace.errors import InvalidInput
from serving.shares import FairSemaphore, Payer, UnknownPauses

from ..reasons import RunRefused
from .call_bodies import BuildSource, CallBody
from .task_stages import Wanted


class ConditionJudge:
    """Judges the conditions of grants, one at a time for known payers and one for unknown ones.

    The owners of the grants take turns, and the event loop serves other requests after each
    condition. So an owner of many costly grants delays the calls for another owner's grants by one
    condition each time. Callers take no turns: a new key for each call costs nothing, but a runner
    holds grants of few owners. After a condition, unknown payers wait four times as long as it
    took; usually that is less than a tenth of a millisecond.

    Attributes:
        judged: number of conditions judged since the start.
    """

    def __init__(self) -> None:
        self._places = FairSemaphore(1, beside=True)
        self.judged = 0
        self._pauses = UnknownPauses()

    async def verdict(self, condition: Condition, call: Call, payer: Payer) -> Verdict:
        """Return whether a condition allows a call to a program (RN250)."""
        turn = Payer(call.owner, payer.is_known)
        async with self._places.acquire(turn):
            async with self._pauses.work(payer):
                verdict = judge_call(condition, call)
            self.judged += 1
            # Gives the event loop to other requests while the place is still taken. Otherwise the
            # payer's next condition would follow at once, because a free place is acquired without
            # waiting.
            await asyncio.sleep(0)
        return verdict


async def located(
    body: CallBody,
    source: BuildSource,
    payer: Payer,
    grants: Iterable[RunGrant],
    judge: ConditionJudge,
) -> CallBody:
    """Add the project that run grants name for the source of a call without one (RN242).

    Only grants that admit the caller count, so that strangers learn nothing about others.

    Args:
        body: the body of the call.
        source: the source that it names.
        payer: the caller, who signed the call.
        grants: the live run grants of all owners.
        judge: judges each grant once, although its rules may name many builds of the source.
    Raises:
        RunRefused: `program-unknown`, or `request-invalid` if the grants name several projects.
    """
    owner = payer.did if body.secrets is None else body.secrets.owner
    now = SystemClock.now()
    projects = set[ProjectId]()
    for grant in grants:
        if grant.owner != owner:
            continue
        named = _builds_of_projects(grant, source)
        if named and await _admits_one(grant, named, payer, judge, now=now):
            projects.update(project for _, project in named)
    if len(projects) > 1:
        raise RunRefused(
            "request-invalid",
            'source: grants name several projects for this commit; add "project": "<did>/<name>"',
        )
    if not projects:
        raise RunRefused("program-unknown")
    return replace(body, project=projects.pop())


def _builds_of_projects(grant: RunGrant, source: BuildSource) -> list[tuple[ByHash, ProjectId]]:
    """Return the rules of a grant for builds of a source that name a project, and the projects."""
    found = []
    for rule in grant.statement.programs:
        if isinstance(rule, ByHash) and rule.project and source.is_of(rule.build):
            found.append((rule, rule.project))
    return found


async def _admits_one(
    grant: RunGrant,
    named: Sequence[tuple[ByHash, ProjectId]],
    payer: Payer,
    judge: ConditionJudge,
    *,
    now: float,
) -> Verdict:
    """Return whether a grant admits the caller to one of several builds."""
    # RN250: with several hashes, a condition on the hash is undecided. Judging each of 64 rules
    # would multiply the cost of a call.
    hashes = {rule.wasm_sha256 for rule, _ in named}
    sha256 = hashes.pop() if len(hashes) == 1 else None
    call = Call(caller=payer.did, owner=grant.owner, wasm_sha256=sha256, now=now)
    return await judge.verdict(grant.statement.callers, call, payer)


def can_judge_patterns() -> bool:
    """Return whether the library for patterns of callers can be imported (RN210).

    It is not released for every version of Python. Without it, patterns admit nobody.
    """
    try:
        import_module("re2")
    except ImportError:
        return False
    return True


def applicable(
    grants: Iterable[RunGrant], call: Call, body: CallBody, wanted: Wanted, target: str
) -> list[tuple[RunGrant, list[ProgramRule]]]:
    """Return the grants for an owner's secrets and a program, with their rules for it (RN80).

    The conditions on callers are not judged. A rule for builds is returned although the build is
    not proven yet (PV20).
    """
    applicable_grants = list[tuple[RunGrant, list[ProgramRule]]]()
    for grant in grants:
        # RN80: the grant must be of this owner, profile and program, and must not have ended
        if (
            grant.owner == call.owner
            and call.now < grant.expires_at
            and any(secret.scope == wanted.scope for secret in grant.secrets)
        ):
            rules = grant.statement.rules_for(call.wasm_sha256 or "", body.project, body.active_of)
            builds_rule = grant.statement.builds_for(target, body.active_of)
            if builds_rule is not None:
                rules.append(builds_rule)
            if rules:
                applicable_grants.append((grant, rules))
    return applicable_grants


def not_granted(call: Call) -> RunRefused:
    """Return the refusal for a call without a grant; only the owner may learn that (RN81)."""
    return RunRefused("secrets-not-granted" if call.caller == call.owner else "access-denied")


class _Admitting(NamedTuple):
    """A grant that admits the caller.

    A grant that names the project decides whose manifest counts (RN176).
    """

    grant: RunGrant
    names_project: bool


def choose(
    candidates: Sequence[tuple[RunGrant, Sequence[ProgramRule]]],
    verdicts: Mapping[str, Verdict],
    call: Call,
    wanted: Wanted,
) -> Mapping[str, Sequence[RunGrant]]:
    """Return, for each secret, the grants that allow reading it (RN80 to RN83).

    Each read cites one grant that names the secret, the program and the caller. So the node applies
    that grant's policy, and not a looser one of another grant.

    Args:
        candidates: the grants for the secrets and the program (`applicable`), newest first.
        verdicts: the verdicts of their conditions, by the text of the grant.
        call: the program, the caller, and the owner of the secrets.
        wanted: the secrets; all that are granted if the program's manifest lists none.
    Returns:
        At least one grant for each name, newest first. The names are in ascending order.
    Raises:
        RunRefused: with one of these codes.
            `secrets-not-granted`: the owner calls, and granted no secrets of the profile to this
                runner for this program.
            `access-denied`, `access-unknown`: no grant's condition admits the caller, or it cannot
                be evaluated.
            `grant-no-project`: no grant names the project, and each states hosts, or the manifest
                asks for secrets of the developer.
            `secret-missing`: the manifest lists a secret that is not granted.
    """
    usable = list[_Admitting]()
    for one in _admitting(candidates, verdicts, call):
        # RN176: any client may publish the same bytes under a project of its own, with other hosts
        # in its manifest. A caller could choose that project, and so choose the hosts, and the
        # variables beside the secrets (RN213).
        has_to_name_project = wanted.by_project or bool(one.grant.statement.hosts)
        if one.names_project or not has_to_name_project:
            usable.append(one)
    if not usable:
        raise RunRefused("grant-no-project")
    granted = _grants_by_secret(usable, wanted.scope)
    # RN82: only the secrets that the manifest lists, if a grant names the project (RN176)
    if wanted.names is not None and any(one.names_project for one in usable):
        for name in wanted.names:
            if name not in granted:
                raise RunRefused("secret-missing", name)
        granted = {name: granted[name] for name in wanted.names}
    return dict(sorted(granted.items()))


def _grants_by_secret(usable: Iterable[_Admitting], scope: str | None) -> dict[str, list[RunGrant]]:
    """Return the grants of each secret in a scope, in the given order."""
    granted: dict[str, list[RunGrant]] = {}
    for one in usable:
        for secret in one.grant.secrets:
            if secret.scope == scope:
                granted.setdefault(secret.name, []).append(one.grant)
    return granted


def _admitting(
    candidates: Sequence[tuple[RunGrant, Sequence[ProgramRule]]],
    verdicts: Mapping[str, Verdict],
    call: Call,
) -> list[_Admitting]:
    """Return the grants that admit the caller (RN81)."""
    if not candidates:
        raise not_granted(call)
    admitting = list[_Admitting]()
    undecided = list[RunGrant]()
    for grant, rules in candidates:
        verdict = verdicts[grant.header]
        if verdict:
            names_project = any(rule.project for rule in rules)
            admitting.append(_Admitting(grant=grant, names_project=names_project))
        elif verdict is None:
            undecided.append(grant)
    if not admitting:  # RN81: an undecided condition refuses, too
        if not undecided:
            raise RunRefused("access-denied")
        raise RunRefused("access-unknown", _why_undecided(undecided))
    return admitting


def _why_undecided(grants: Iterable[RunGrant]) -> str:
    """Return which pattern in the grants' conditions is over the limit, or an empty text."""
    for grant in grants:
        try:
            require_bounded_patterns(grant.statement.callers)
        except InvalidInput as invalid:
            return f"{invalid.message}; the owner has to grant again"
    return ""
