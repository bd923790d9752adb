"""The table of the operations that `/invoke` can run (wire §4, I6 to I15).

    ability, resource → row → plan of the whole token → run → result

To add a service, write its module and add a row here. The HTTP layer supplies the `Message` and
formats the result by its type.
"""

from collections.abc import Awaitable, Callable, Sequence

from capabilities.abilities import (
    CAPABILITIES_READ,
    DECRYPT,
    DELEGATION_STATUS,
    KV_DELETE,
    KV_GET,
    KV_LIST,
    KV_METADATA,
    KV_PUT,
    KV_SYNC,
    REVOKE,
    SPACE_CREATE,
    SPACE_INFO,
    SPACE_LIST,
    resolve_alias,
)
from capabilities.capability_errors import WrongKind
from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import OpaqueResource, Resource, SpaceResource
from capabilities.tokens import Capability, Invocation

from ..counts import Operation
from ..refusal import Refusal
from ..services import Services
from .authorise import check_unbound, read_call
from .delegations.read_capabilities import is_about_grants, read_capabilities
from .delegations.space_service import (
    is_about_one,
    is_about_one_or_all,
    is_about_spaces,
    list_spaces,
    make_space,
    read_space,
)
from .releases.decrypt import decrypt_invoked, is_about_network
from .sql.sql_run import run_sql
from .values.conditions import NO_OPTIONS, Options, has_option_headers, parse_options
from .values.kv_batch import put_all, read_all
from .values.kv_get import get, metadata
from .values.kv_list import list_granted
from .values.kv_sync import sync
from .values.kv_versions import versions
from .values.kv_write import delete, put
from .values.plan import (
    MAX_BATCH_READS,
    MAX_BATCH_WRITES,
    Message,
    OperationTarget,
    Request,
    check_batch_put,
    is_value,
)

_OF_DELEGATIONS = frozenset({REVOKE, DELEGATION_STATUS})
_OWN = "sealspace."


Run = Callable[[Request], Awaitable[object]]


class Batch(FrozenStruct, eq=False):
    """An operation on several values with a single response.

    Attributes:
        limit_text: the start of the error message that names `most`.
        most: the maximum number of capabilities.
        run: carries out all of them.
        check: a further check of the request.
    """

    limit_text: str
    most: int
    run: Run
    check: Callable[[Request], None] | None = None


class InvokeOperation(FrozenStruct, eq=False):
    """An operation that `/invoke` can run.

    Attributes:
        ability: the ability that selects the service; its alias does so too. A name that ends with
            `/` stands for all abilities with this prefix.
        about: whether the service applies to a resource; on others the ability is authorised and
            has no effect.
        run: carries out one capability, and judges the token in the read that its result depends on
            (I14).
        operation: the name of the service in metrics.
        batch: the operation for several capabilities; None if they cannot share a response (Q3).
        takes_all: whether the whole token belongs to this service, with all of its capabilities.
    """

    ability: str
    about: Callable[[Resource], bool]
    run: Run
    operation: Operation = "other"
    batch: Batch | None = None
    takes_all: bool = False


async def _authorise(request: Request) -> None:
    """Authorise a request without running an operation."""
    call = await read_call(request.services, request.invocation)
    call.require_hosted()


async def _refuse_duckdb(request: Request) -> None:
    await _authorise(request)
    raise Refusal("not-enabled", "DuckDB")


def _is_of(service: str) -> Callable[[Resource], bool]:
    """Return a function that tells whether a resource belongs to a service of a space."""
    return lambda resource: isinstance(resource, SpaceResource) and resource.service == service


def _read_metadata(request: Request) -> Awaitable[object]:
    """Read the metadata of one version, or list all versions if version 0 is requested."""
    if request.options.version == 0:
        return versions(request)
    return metadata(request)


_READS = "reads accept"
GET_VALUE = InvokeOperation(
    ability=KV_GET,
    about=is_value,
    run=get,
    operation="kv_get",
    batch=Batch(limit_text=_READS, most=MAX_BATCH_READS, run=lambda r: read_all(r, bodies=True)),
)
PUT_VALUE = InvokeOperation(
    ability=KV_PUT,
    about=is_value,
    run=put,
    operation="kv_put",
    batch=Batch(
        limit_text="put accepts", most=MAX_BATCH_WRITES, run=put_all, check=check_batch_put
    ),
)
DELETE_VALUE = InvokeOperation(
    ability=KV_DELETE,
    about=is_value,
    run=delete,
    operation="kv_delete",
    batch=Batch(limit_text="delete accepts", most=MAX_BATCH_WRITES, run=delete),
)
OPEN_KEY = InvokeOperation(
    ability=DECRYPT,
    about=is_about_network,
    run=lambda r: decrypt_invoked(r.services, r.invocation, r.message),
    operation="decrypt",
    takes_all=True,
)
READ_METADATA = InvokeOperation(
    ability=KV_METADATA,
    about=is_value,
    run=_read_metadata,
    operation="kv_metadata",
    batch=Batch(limit_text=_READS, most=MAX_BATCH_READS, run=lambda r: read_all(r, bodies=False)),
)
READ_SPACE = InvokeOperation(
    ability=SPACE_INFO,
    about=is_about_one_or_all,
    run=lambda r: read_space(r.services, r.invocation, r.target.space, r.target.path),
)
TABLE = (
    GET_VALUE,
    READ_METADATA,
    InvokeOperation(ability=KV_LIST, about=is_value, run=list_granted, operation="kv_list"),
    PUT_VALUE,
    DELETE_VALUE,
    InvokeOperation(
        ability=CAPABILITIES_READ,
        about=is_about_grants,
        run=lambda r: read_capabilities(r.services, r.invocation, r.target.space),
    ),
    InvokeOperation(
        ability=SPACE_LIST,
        about=is_about_spaces,
        run=lambda r: list_spaces(r.services, r.invocation, r.target.space.owner),
    ),
    InvokeOperation(
        ability=SPACE_CREATE,
        about=is_about_one,
        run=lambda r: make_space(
            r.services, r.invocation, r.target.space.owner, r.target.path, client=r.message.client
        ),
    ),
    READ_SPACE,
    # Of the rows below that take a whole token, the first that applies gets it (CF1, I6, I7, I8).
    InvokeOperation(
        ability=KV_SYNC, about=_is_of("kv"), run=sync, operation="kv_sync", takes_all=True
    ),
    OPEN_KEY,
    InvokeOperation(
        ability="tinycloud.sql/", about=_is_of("sql"), run=run_sql, operation="sql", takes_all=True
    ),
    InvokeOperation(
        ability="tinycloud.duckdb/", about=_is_of("duckdb"), run=_refuse_duckdb, takes_all=True
    ),
)
_NOTHING = InvokeOperation(ability="", about=lambda _: False, run=_authorise)
_ROWS = {row.ability: row for row in TABLE}
_TAKING_ALL = tuple(row for row in TABLE if row.takes_all)


def check_call(invocation: Invocation) -> None:
    """Check that a token is meant for `/invoke`.

    A request to list an account's delegations passes, because as a call it has no effect. On
    `/invoke`, decrypt requests are recognised before this check (I6).

    Args:
        invocation: verified.

    Raises:
        WrongKind: a fact binds the token to another route, or a capability is valid on another
            route only.
    """
    check_unbound(invocation)
    for capability in invocation.capabilities:
        ability, resource = capability.ability, capability.resource
        # These are the abilities to change policies, withdraw trust and read receipts.
        if ability.startswith(_OWN):
            raise WrongKind
        if ability == DECRYPT and is_about_network(resource):
            raise WrongKind
        # On one delegation, as `urn:cid:<cid>`, these abilities have routes of their own.
        if ability in _OF_DELEGATIONS and isinstance(resource, OpaqueResource):
            raise WrongKind


class Plan(FrozenStruct):
    """A requested operation that is ready to run."""

    row: InvokeOperation
    operation: Operation
    run: Run
    request: Request


def plan_call(services: Services, invocation: Invocation, message: Message) -> Plan:
    """Look up the operation requested by a token.

    Nothing is run. A token may have many capabilities. Each one that a row applies to has an
    outcome; the others are authorised and have no effect. Outcomes that cannot share a response are
    refused (Q3).

    Args:
        invocation: admitted, see `admit_token`.
        message: the rest of the request.
    Raises:
        WrongKind: another route serves it (T12).
        Refusal: `bad-option`, a header is malformed or does not apply to this call (I9), or the
            outcomes cannot share a response (I10, I15).
    Does not check:
        Whether the token is authorised or was used before; the run checks that in its first read.
    """
    rows: list[InvokeOperation] = []
    targets: list[OperationTarget] = []
    is_alone = len(invocation.capabilities) == 1
    for capability in invocation.capabilities:
        row = _outcome_of(capability, is_alone=is_alone)
        resource = capability.resource
        if row is not None:
            rows.append(row)
            if isinstance(resource, SpaceResource):
                targets.append(OperationTarget(resource.space, resource.path or ""))
    # A decrypt request is recognised before this check (I6). The check would reject it, because it
    # also has a route of its own (T12).
    if OPEN_KEY not in rows:
        check_call(invocation)
    taking_all = _row_that_takes_all(rows)
    if taking_all is not None:
        whole_token = Request(
            services=services,
            invocation=invocation,
            targets=(),
            options=NO_OPTIONS,
            message=message,
        )
        return Plan(
            row=taking_all,
            operation=taking_all.operation,
            run=taking_all.run,
            request=whole_token,
        )
    request = Request(
        services=services,
        invocation=invocation,
        targets=tuple(targets),
        options=_options_of(message, rows) if has_option_headers(message.headers) else NO_OPTIONS,
        message=message,
    )
    is_form = PUT_VALUE in rows and message.is_form
    if is_form or len(rows) > 1:
        return _plan_batch(rows, request, is_form=is_form)
    row = rows[0] if rows else _NOTHING
    return Plan(row=row, operation=row.operation, run=row.run, request=request)


def _outcome_of(capability: Capability, *, is_alone: bool) -> InvokeOperation | None:
    """Return the operation that a capability requests, or None if it has no effect.

    `is_alone` tells whether the token has no other capability.
    """
    row = row_of(capability.ability)
    if row is None or not row.about(capability.resource):
        return None
    if row is READ_SPACE and is_about_spaces(capability.resource) and not is_alone:
        return None  # the usage of a space is read only by a token of its own (Q36)
    return row


def _row_that_takes_all(rows: Sequence[InvokeOperation]) -> InvokeOperation | None:
    """Return the first of some operations that takes a whole token, or None.

    The order is that of TABLE (I6, I7, I8).
    """
    for row in _TAKING_ALL:
        if row in rows:
            return row
    return None


def _options_of(message: Message, rows: Sequence[InvokeOperation]) -> Options:
    """Parse the headers that change what the operations do (I9).

    Raises:
        Refusal: `bad-option`, a header is malformed or does not apply to these operations.
    """
    return parse_options(
        # The last value of a repeated header counts (4.4.3).
        {name.lower(): value for name, value in message.headers.items()},
        reads=rows.count(GET_VALUE),
        puts=rows.count(PUT_VALUE),
        deletes=rows.count(DELETE_VALUE),
        is_form=message.is_form,
        metadata_reads=rows.count(READ_METADATA),
    )


def _plan_batch(rows: Sequence[InvokeOperation], request: Request, *, is_form: bool) -> Plan:
    """Combine several operations into a batch (4.4.7).

    Raises:
        Refusal: `bad-option`, the operations cannot share a response, or there are too many.
    """
    if not is_form and rows.count(PUT_VALUE) > 1:
        raise Refusal("bad-option", "KV batch put requires multipart/form-data")
    # A form is always a batch write: `check_batch_put` refuses anything but puts (I10).
    row = PUT_VALUE if is_form else rows[0]
    is_mixture = not is_form and rows.count(row) < len(rows)
    if row.batch is None or is_mixture:
        # Clients get the refusal of too many operations before that of a mixture (4.4.7).
        if len(rows) > MAX_BATCH_READS:
            raise _too_many(_READS, MAX_BATCH_READS)
        raise Refusal(
            "bad-option",
            "Multiple invocation outcomes require a homogeneous KV get or metadata batch",
        )
    if row.batch.check is not None:
        row.batch.check(request)
    # One commit or one response has this limit (Q4, 4.4.7).
    if len(request.targets) > row.batch.most:
        raise _too_many(row.batch.limit_text, row.batch.most)
    return Plan(row=row, operation="kv_batch", run=row.batch.run, request=request)


def _too_many(limit_text: str, most: int) -> Refusal:
    return Refusal("bad-option", f"KV batch {limit_text} at most {most} keys")


def row_of(ability: str) -> InvokeOperation | None:
    """Look up the operation for an ability or its alias (T7).

    Return None if no operation has this ability.
    """
    row = _ROWS.get(resolve_alias(ability))
    if row is not None:
        return row
    # Some rows are for all abilities of a service; see `InvokeOperation.ability`.
    service, _, _ = ability.partition("/")
    return _ROWS.get(f"{service}/")
