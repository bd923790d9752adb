"""Administration of the storage limits of spaces (wire §5.12).

A limit is a row of the store, so it survives restarts and applies on every worker and machine from
the next write on.
"""

from collections.abc import Mapping

import msgspec

from capabilities.clock_and_entropy import Entropy
from capabilities.frozen_struct import FrozenStruct
from spaces.audit.audit_records import AuditRecord
from spaces.grants.hosting import is_hosted
from spaces.keyspace import space_keys
from spaces.store.contract import Store, commit_puts, counter_of
from spaces.values.quota import (
    effective_limit,
    override_of,
    override_put,
    read_overrides,
)

from ...config.tree import Config
from ...services import quota_policy
from .public_values import valid_space

MAX_OVERRIDES = 10_000


class QuotaView(FrozenStruct, omit_defaults=True):
    """The storage limits and the current usage of one space."""

    space_id: str
    override_bytes: int | None
    effective_limit_bytes: int | None
    current_usage_bytes: int | None
    versions_bytes: int = 0


class AllOverrides(msgspec.Struct, omit_defaults=True):
    """The storage limits that the operator has set for individual spaces.

    A limit of null means that the space is not limited.
    """

    overrides: Mapping[str, int]
    default_limit_bytes: int | None
    more: bool = False


async def all_overrides(store: Store, config: Config) -> AllOverrides:
    """Return the storage limits that the operator has set for individual spaces."""
    limits, more = await read_overrides(store, limit=MAX_OVERRIDES)
    return AllOverrides(
        overrides=limits, default_limit_bytes=quota_policy(config).default_bytes, more=more
    )


async def show_quota(store: Store, config: Config, space_text: str) -> QuotaView:
    """Return the storage limits and the current usage of a space."""
    space = valid_space(space_text)
    own = space_keys(space)
    keys = (own.override, own.usage, own.row, own.versions)
    override, usage, hosted, versions = (await store.read(keys)).records
    return QuotaView(
        space_id=space_text,
        override_bytes=override_of(override),
        effective_limit_bytes=effective_limit(space, override, quota_policy(config)),
        current_usage_bytes=counter_of(usage) if is_hosted(hosted) else None,
        versions_bytes=counter_of(versions),
    )


async def set_quota(
    store: Store,
    config: Config,
    space_text: str,
    limit_bytes: int | None,
    *,
    now: float,
    entropy: Entropy,
) -> QuotaView:
    """Set or remove the storage limit of one space.

    Pass None to remove the limit. The change is durable when this returns, and is recorded in the
    audit log.
    """
    space = valid_space(space_text)
    record = AuditRecord(
        at=now,
        action="quota.cleared" if limit_bytes is None else "quota.set",
        actor="operator",
        subject=space.text,
        detail=b"" if limit_bytes is None else str(limit_bytes).encode(),
    )
    await commit_puts(store, override_put(space, limit_bytes), record.put(entropy))
    # The answer to a change states no usage (wire 5.12).
    quota = await show_quota(store, config, space_text)
    return msgspec.structs.replace(quota, current_usage_bytes=None, versions_bytes=0)
