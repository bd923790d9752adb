"""The rights of a token's abilities on a database, within the limits of its caveats (SQ20)."""

from capabilities.capability_errors import SqlRefused
from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import SpaceResource
from capabilities.sql_caveats import SqlLimits, limits_of
from capabilities.tokens import Invocation
from spaces.space_errors import SqlError
from spaces.sql.database_rows import DatabaseName
from spaces.sql.guard import ADMIN, READ, SCHEMA

from .sql_request import Execute, Export, Named, Query, SqlRequest, rights_of

_MAX_PERMITS = 8  # a refused request is tried with each


class Permit(FrozenStruct):
    """Rights that apply within the same limits."""

    rights: frozenset[str]
    limits: SqlLimits

    def applied(self, work: SqlRequest) -> SqlRequest:
        """Return a request with its named statement in full (SQ25, SQ26).

        Raises:
            SqlRefused: the limits do not permit the request.
            SqlError: there is no statement with this name.
        """
        limits = self.limits
        if isinstance(work, Named):
            if not limits.mode and all(work.name != one.name for one in limits.statements):
                raise SqlError(f"Invalid statement: Statement '{work.name}' not found")
            return Query(*limits.bind(work.name, work.params))
        if limits.mode or (isinstance(work, Export) and not limits.is_whole):
            raw = "raw-" if isinstance(work, Query | Execute) else ""
            raise SqlRefused(f"sql-{raw}{work.__struct_config__.tag}-blocked")
        return work


def permits_of(invocation: Invocation, name: DatabaseName) -> list[Permit]:
    """Return what an authorised token allows in a database, one permit for equal limits (SQ23).

    Raises:
        CaveatRefused: see `limits_of`.
        SqlRefused: the token states too many different caveats.
    """
    found: dict[SqlLimits, frozenset[str]] = {}
    for capability, limits in limits_of(invocation, SpaceResource(name.space, "sql", name.path)):
        rights = rights_of(capability.ability)
        if limits.read_only:
            rights &= {READ}
        if not limits.is_whole:
            rights -= {SCHEMA, ADMIN}
        found[limits] = rights.union(found.get(limits, ()))
    if len(found) > _MAX_PERMITS:
        raise SqlRefused("sql-caveat-unknown")
    # Constrained ones first: others have no statement of the name that is asked for.
    listed = sorted(found.items(), key=lambda one: not one[0].mode)
    return [Permit(rights, limits) for limits, rights in listed]
