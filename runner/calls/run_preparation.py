"""What a run needs before its program starts: secrets, limits, hosts and variables.

Example:
    wanted = preparation.wanted(body, payer.did, version)
    request, secrets = await preparation.prepared(job, body, wanted, version.manifest, request)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from capabilities.principals import Principal
from sealspace.apps.programs import ProgramManifest, Version
from sealspace.documents.iexec_names import address_of, app_secret
from sealspace.documents.project_names import ProjectId
from sealspace.documents.secret_names import scope_of_profile

from ..guest.executor import Executor
from ..guest.runs import Limits, RunRequest
from ..reasons import RunRefused
from .call_bodies import CallBody, TaskOrder
from .grant_reader import GrantReader
from .published_programs import grant_for
from .reuse_scopes import ReuseScopes
from .run_secrets import RunSecrets, SecretReader, capped
from .run_variables import run_environment
from .task_stages import Prepared, Wanted, wanted_by_application, wanted_by_task


@dataclass(eq=False, repr=False)
class Preparation:
    """Reads what runs need.

    Attributes:
        reader: of secrets.
        grants: held by this runner.
        executor: whose kept children end with the right to their secrets.
        most: the upper limits for every run.
        takes_tasks: whether this runner runs tasks.
    """

    reader: SecretReader
    grants: GrantReader
    executor: Executor
    most: Limits
    takes_tasks: bool
    scopes: ReuseScopes = field(default_factory=ReuseScopes)

    def limits(self, body: CallBody) -> Limits:
        """Return the resource limits for a requested program run.

        Each is the requested limit, but at most the runner's limit.
        """
        return capped(self.most, body.limits)

    def wanted(self, body: CallBody, caller: Principal, version: Version) -> list[Wanted]:
        """Return the secrets that a call or a task needs (RN212, TK3)."""
        if body.project is not None and body.task is not None:
            return self._wanted_by_task(body.project, body.task, caller)
        wanted = list[Wanted]()
        own = version.manifest.developer
        if body.secrets is not None:
            wanted.append(
                Wanted(
                    owner=body.secrets.owner,
                    scope=body.secrets.scope,
                    names=version.manifest.secrets,
                    by_project=own is not None,
                )
            )
        if own is not None and body.project is not None:
            wanted.append(
                Wanted(
                    owner=body.project.developer,
                    scope=scope_of_profile(own.profile),
                    names=own.secrets,
                    by_project=True,
                )
            )
        return wanted

    def _wanted_by_task(self, app: ProjectId, order: TaskOrder, caller: Principal) -> list[Wanted]:
        """Return the secrets that a task needs (TK3).

        The application's secret is optional: it is left out if the runner never had a grant of it.
        A grant that has ended, was revoked or is for another version counts. The task is then
        refused when its grants are judged, which says why, unless another grant admits it (TK4).

        Raises:
            RunRefused: `tasks-off`: this runner takes no tasks.
        """
        if not self.takes_tasks:
            raise RunRefused("tasks-off")
        wanted = wanted_by_task(order, caller)
        secret = app_secret(address_of("app", app))
        for _, grant in self.grants.run_grants("live", "ended", "revoked"):
            if grant.owner == app.developer and secret in grant.secrets:
                return [wanted_by_application(app), *wanted]
        return wanted

    async def prepared(
        self,
        job: str,
        body: CallBody,
        wanted: Sequence[Wanted],
        manifest: ProgramManifest,
        request: RunRequest,
        *,
        key: int | None = None,
    ) -> Prepared:
        """Return a run request with limits, allowed hosts and secrets, and the secrets alone."""
        limits = self.limits(body)
        has_storage = False
        if body.task is None:  # tasks have no storage
            has_storage = grant_for(body.project, self.grants.storage_grants()) is not None
        found = RunSecrets(
            self.reader,
            body,
            request,
            has_key=key is not None,
            limits=limits,
            hosts=frozenset(manifest.hosts),
            has_storage=has_storage,
        )
        grants = [grant for _, grant in self.grants.run_grants()] if wanted else []
        project = None if body.project is None else body.project.text
        series = self.scopes.series(request, key=key, project=project)
        try:
            await found.gather(wanted, grants)
            environment = run_environment(
                job, body, request.payer.did, limits=found.limits, secrets=found.values
            )
        except RunRefused:
            # RN260: a grant may have been revoked, and a kept child still has its secret
            self.executor.end_kept(series)
            raise
        build = None
        if len(found.builds) == 1:  # RN244: only a label on which the grants of all secrets agree
            build = found.builds.pop()
        is_proven = build is not None and found.are_builds_proven
        scope = self.scopes.scope(
            series,
            found.read,
            hosts=found.hosts,
            limits=found.limits,
            has_storage=found.has_storage,
        )
        prepared = replace(
            request,
            environment=environment,
            limits=found.limits,
            hosts=found.hosts,
            secrets_delivered=bool(found.values),
            build=build,
            is_build_proven=is_proven,
            has_storage=found.has_storage,
            reuse=scope,
        )
        return prepared, found.values
