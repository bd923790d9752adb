"""The rules by which a node creates spaces (store §6).

A space belongs to the DID in its name. It is hosted by

- an explicit grant: `tinycloud.space/host` on exactly `<space>/space` (D40);
- except in mode `explicit`, a newly registered delegation without parents whose signer is the
  space's DID, or a write by that DID itself.

The mode decides whose spaces are hosted at all. In `auto` and `explicit` they may belong to any
DID, in `permit` only to DIDs that the settings list (ST13) or the operator admitted (ST14). That
applies to explicit grants too, because anyone can make a DID to sign one.

A read, a sub-delegation or a revoked grant never hosts a space. The number of spaces is limited in
every mode, for explicit grants too (ST15). Only the rule for names differs: an explicit grant may
name any space except `.`, `..` and names over 255 bytes (Q30). The limits are judged in the commit,
on exact counters.

Example:
    wanted = hosting_by_grant(delegation, policy, client=client, now=now)
    snapshot = await store.read((*marks, *wanted.keys()))
    plan = plan_hosting(wanted, snapshot.records[len(marks):])
    commit = Commit(puts=(*rows, *plan.puts), adds=plan.adds, checks=plan.checks)
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from capabilities.chain import hosted_spaces, mentioned_spaces
from capabilities.frozen_struct import AcyclicStruct
from capabilities.limits import counted_client
from capabilities.principals import Principal
from capabilities.resources import SpaceId
from capabilities.tokens import Delegation

from .._codec import Codec
from ..keyspace import (
    TOTAL_SPACES_COUNTER,
    newcomers_counter,
    owned_space_key,
    owner_counter,
    space_id16,
    space_key,
    space_keys,
    x16,
)
from ..store.contract import (
    ABSENT,
    Add,
    Check,
    Packed,
    Put,
    Range,
    Record,
    check_of,
    counter_of,
    has_value,
)
from .admissions import admission_key, is_admitted

MAX_NAME_BYTES = 255
"""The longest name of a space that is hosted (Q30)."""
_AUTOMATIC_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


HostingMode = Literal["auto", "explicit", "permit"]
"""The rule that decides which spaces a node hosts."""


class HostingPolicy(NamedTuple):
    """The node's settings for hosting spaces.

    The limits on the number of spaces apply in every mode.
    """

    mode: HostingMode = "auto"
    listed: frozenset[str] = frozenset()
    per_grant: int = 16
    per_owner: int = 32
    total: int = 1_000_000
    new_owners_per_hour: int = 60

    @property
    def is_automatic(self) -> bool:
        """Whether spaces are hosted without an explicit grant."""
        return self.mode != "explicit"

    def needs_admission(self, owner: Principal) -> bool:
        """Return whether hosting an owner's spaces requires the operator's permission.

        If so, a row of the store records the permission (ST14). Listed owners need none (ST13).
        """
        return self.mode == "permit" and owner not in self.listed


class HostingRequest(AcyclicStruct):
    """A request to host spaces.

    `mentioned` contains all spaces that the request names. `wanted` contains those that the node
    may start to host. `newcomers` is the key of the counter of new owners, if they are counted for
    the client address of the request.
    """

    mentioned: tuple[SpaceId, ...]
    wanted: tuple[SpaceId, ...] = ()
    policy: HostingPolicy = HostingPolicy()
    newcomers: bytes | None = None

    @property
    def owners(self) -> tuple[Principal, ...]:
        """The distinct owners of the spaces in `wanted`."""
        return tuple(dict.fromkeys([space.owner for space in self.wanted]))

    @property
    def to_admit(self) -> tuple[Principal, ...]:
        """The owners whose spaces are hosted only if the operator admitted them (ST13, ST14)."""
        return tuple([owner for owner in self.owners if self.policy.needs_admission(owner)])

    def keys(self) -> tuple[bytes, ...]:
        """Return the keys of the rows that `plan_hosting` needs.

        The records are passed to `plan_hosting` in the same order.
        """
        spaces = tuple([space_keys(space).row for space in self.mentioned])
        if not self.wanted:  # nothing will be hosted, so the counters are not needed
            return spaces
        admissions = [admission_key(owner) for owner in self.to_admit]
        counters = [owner_counter(x16(owner)) for owner in self.owners]
        counters.append(TOTAL_SPACES_COUNTER)
        if self.newcomers is not None:
            counters.append(self.newcomers)
        return (*admissions, *spaces, *counters)


class HostingPlan(AcyclicStruct):
    """The spaces to host, and the rows to write for them.

    After the commit, the spaces in `activated` are hosted. Those in `new` were not hosted before.
    """

    activated: tuple[SpaceId, ...]
    skipped: tuple[SpaceId, ...] = ()
    new: tuple[SpaceId, ...] = ()
    puts: tuple[Put, ...] = ()
    adds: tuple[Add, ...] = ()
    checks: tuple[Check, ...] = ()


class HostedSpace(Packed):
    """The database row of a hosted space."""

    owner: Principal
    name: str
    hosted_at: float

    @property
    def space(self) -> SpaceId:
        """The id of the space."""
        return SpaceId(self.owner, self.name)


_CODEC = Codec(HostedSpace)
space_of = _CODEC.read
"""Decode the row of a space."""


is_hosted = has_value
"""Return whether a space is hosted, by the row under `SpaceKeys.row`."""


def owned_spaces_range(owner: Principal, *, limit: int = 1000) -> Range:
    """Return the range of rows that list an owner's spaces.

    Decode the rows with `space_of`.
    """
    return Range(owned_space_key(x16(owner)), limit=limit)


def hosting_by_grant(
    delegation: Delegation,
    policy: HostingPolicy,
    *,
    client: str | None,
    now: float,
    is_new: bool = True,
) -> HostingRequest:
    """Build a request to host the spaces named by a delegation.

    Args:
        delegation: verified, about to be registered, or registered and live.
        policy: as configured.
        client: address the request came from; None to count no address.
        now: epoch seconds.
        is_new: False for a repeat, which hosts nothing and reports what is hosted.
    """
    mentioned = mentioned_spaces(delegation.capabilities)
    if not is_new:
        return HostingRequest(mentioned)
    # one grant may host several spaces, each named exactly (D40, D44)
    explicit = hosted_spaces(delegation)
    # without parents, it may also host spaces of its signer that it names in any way
    signer = None if delegation.parents else delegation.delegator
    return _request(mentioned, frozenset(explicit), signer, policy, client=client, now=now)


def hosting_by_put(
    space: SpaceId, invoker: Principal, policy: HostingPolicy, *, client: str | None, now: float
) -> HostingRequest:
    """Build a request to host the space that a client writes to.

    The node may start to host it only if it belongs to the invoker and the mode allows it.
    """
    return _request((space,), (), invoker, policy, client=client, now=now)


def _request(
    mentioned: tuple[SpaceId, ...],
    explicit: Collection[SpaceId],
    signer: Principal | None,
    policy: HostingPolicy,
    *,
    client: str | None,
    now: float,
) -> HostingRequest:
    """Build a request to host spaces, limited to the permitted ones.

    The node may start to host the explicitly granted spaces and, if the mode hosts spaces
    automatically, the signer's own spaces.
    """
    automatic_owner = signer if policy.is_automatic else None
    wanted = tuple(
        [space for space in mentioned if _may_be_hosted(space, explicit, automatic_owner)]
    )
    if not wanted:
        return HostingRequest(mentioned)  # the usual case
    counted = counted_client(client)
    newcomers = None
    if counted is not None:
        newcomers = newcomers_counter(int(now) // 3600, x16(counted))
    return HostingRequest(mentioned=mentioned, wanted=wanted, policy=policy, newcomers=newcomers)


def _may_be_hosted(
    space: SpaceId, explicit: Collection[SpaceId], automatic_owner: Principal | None
) -> bool:
    """Return whether a space is explicitly granted or the signer's own, and may have its name."""
    if space in explicit:
        # names that mean another folder, or are too long for one, are never hosted (Q30)
        return space.name not in (".", "..") and len(space.name.encode()) <= MAX_NAME_BYTES
    return space.owner == automatic_owner and _AUTOMATIC_NAME.fullmatch(space.name) is not None


def plan_hosting(
    request: HostingRequest, records: Sequence[Record | None], *, now: float
) -> HostingPlan:
    """Select the spaces to host, within the limits.

    A space beyond a limit is skipped. If a commit is refused because another commit reached a limit
    first, it is planned again from a new read, and then skips the space.
    """
    if not request.wanted:
        return _plan_without_new_spaces(request, records)
    found = dict(zip(request.keys(), records, strict=True))
    to_admit = request.to_admit
    # Dicts instead of lists, because a token can name 1,024 spaces and each is looked up.
    hosted = dict.fromkeys(
        [space for space in request.mentioned if is_hosted(found[space_keys(space).row])]
    )
    new: dict[SpaceId, None] = {}
    counters = _SpaceCounters(request, found)
    for space in request.wanted:
        owner = space.owner
        # in mode `permit`, an owner who is not listed needs a row of admission (ST13, ST14)
        is_refused = owner in to_admit and not is_admitted(found[admission_key(owner)])
        if space in hosted or is_refused:
            continue
        limits = counters.limits_of(owner)
        # the counters are limited, and so are the new spaces of one grant (ST15)
        if counters.have_room(limits) and len(new) < request.policy.per_grant:
            new[space] = None
            counters.increase(limits)
    active = hosted | new
    owners = dict.fromkeys([space.owner for space in new])
    # The commit is refused if one of these rows changes. A removed admission then takes effect.
    relied_on = [space_keys(space).row for space in hosted]
    relied_on += [admission_key(owner) for owner in owners if owner in to_admit]
    return HostingPlan(
        activated=tuple([space for space in request.mentioned if space in active]),
        skipped=tuple([space for space in request.mentioned if space not in active]),
        new=tuple(new),
        puts=tuple([put for space in new for put in _space_puts(space, now)]),
        adds=counters.adds(),
        checks=tuple([check_of(key, found[key]) for key in relied_on]),
    )


def _plan_without_new_spaces(
    request: HostingRequest, records: Sequence[Record | None]
) -> HostingPlan:
    """Return which of the mentioned spaces are hosted; most requests host no new one.

    The plan is refused if the row of a hosted space changes.
    """
    hosted: list[SpaceId] = []
    skipped: list[SpaceId] = []
    checks: list[Check] = []
    for space, record in zip(request.mentioned, records, strict=True):
        if is_hosted(record):
            hosted.append(space)
            checks.append(check_of(space_keys(space).row, record))
        else:
            skipped.append(space)
    return HostingPlan(activated=tuple(hosted), skipped=tuple(skipped), checks=tuple(checks))


class _SpaceCounters:
    """The counters that limit the number of spaces, as a commit will increase them (ST15)."""

    def __init__(self, request: HostingRequest, found: Mapping[bytes, Record | None]) -> None:
        self._request = request
        self._found = found
        self._growth: dict[bytes, int] = {}
        self._limits: dict[bytes, int] = {}

    def limits_of(self, owner: Principal) -> dict[bytes, int]:
        """Return the counters that one more space of an owner increases, each with its limit."""
        policy = self._request.policy
        newcomers = self._request.newcomers
        own = owner_counter(x16(owner))
        limits = {own: policy.per_owner, TOTAL_SPACES_COUNTER: policy.total}
        # an owner's first space counts towards the new owners of the hour
        is_first = own not in self._growth and counter_of(self._found[own]) == 0
        if newcomers is not None and is_first:
            limits[newcomers] = policy.new_owners_per_hour
        return limits

    def have_room(self, limits: Mapping[bytes, int]) -> bool:
        """Return whether one more space stays within all limits."""
        return all(
            counter_of(self._found[key]) + self._growth.get(key, 0) < limit
            for key, limit in limits.items()
        )

    def increase(self, limits: Mapping[bytes, int]) -> None:
        """Count one more space."""
        for key, limit in limits.items():
            self._limits[key] = limit
            self._growth[key] = self._growth.get(key, 0) + 1

    def adds(self) -> tuple[Add, ...]:
        """Return the updates of the counters.

        Each counter refuses a commit that exceeds its limit.
        """
        return tuple(
            [Add(key, count, at_most=self._limits[key]) for key, count in self._growth.items()]
        )


def _space_puts(space: SpaceId, now: float) -> tuple[Put, Put]:
    space16 = space_id16(space)
    value = _CODEC.encode(HostedSpace(owner=space.owner, name=space.name, hosted_at=now))
    return (
        Put(space_key(space16), value, expect=ABSENT),
        Put(owned_space_key(x16(space.owner), space16), value, expect=ABSENT),
    )
