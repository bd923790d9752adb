"""The upgrade of a store that an earlier version wrote (ST23, ST25).

Schema 3 records which path stored which content key (RL21). A store of schema 2 does not, so a node
could not tell whether an envelope was copied, and refuses to serve it. The upgrade reads every
value and every kept version, opens the wrapped keys in them, and records their paths. The order of
earlier writes is not known. A key that is found at two paths counts as stored at both, whichever
was first.

Schema 4 gives each value a number in the order of the changes in its space (CF3). The upgrade gives
one to each value that has none.

The last commit states the new schema, so an interrupted upgrade is repeated, and an upgraded store
is never served by an earlier version.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import SpaceId
from encryption_network.keyring import Keyring
from sealspace.service.command_errors import StoreMisused
from spaces.grants.hosting import space_of
from spaces.identity import schema_put
from spaces.keyspace import (
    KEY_PLACES_PREFIX,
    LONG_VALUES_PREFIX,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    SEQUENCES_PREFIX,
    SPACE16_IN_KEY,
    VALUES_PREFIX,
    VERSIONS_PREFIX,
    is_index_row,
    space_key,
    space_keys,
    usage_counter,
)
from spaces.space_errors import RecordDamaged, StoreBusy
from spaces.store.contract import (
    Commit,
    Page,
    Put,
    Range,
    Record,
    Refused,
    Store,
    commit_puts,
    has_value,
    pages_of,
    read_row,
    stamp_of,
)
from spaces.values.key_places import key_places_of, plan_key_places
from spaces.values.value_heads import Head, head_of
from spaces.values.value_storage import Values

from .values.sealed_values import MOST_ENVELOPE_BYTES, SealedKey, find_sealed_key
from .values.stored_keys import stored_keys_of

_PAGE_ROWS = 64
"""Rows of values in one step; each may contain a body of 64 KiB."""
_COUNTED_ROWS = 1024
_WITHOUT_CONTENT_KEYS = (2).to_bytes(4, "big")
"""The schema of a store that does not record the paths of content keys."""


class Upgraded(FrozenStruct):
    """The result of an upgrade.

    Attributes:
        schema: the schema of the store.
        values: how many values and versions were examined for content keys.
        numbered: how many values got a number.
        unreadable: how many values and versions have a damaged or missing file. It is not known
            which content key these contain.
        keys: how many content keys are stored.
        at_two_paths: how many of these are stored at two paths.
    """

    schema: int
    values: int
    numbered: int
    unreadable: int
    keys: int
    at_two_paths: int


@dataclass
class StoreUpgrade:
    """An upgrade in progress.

    Attributes:
        store: no node uses it.
        values: reads the bodies of values.
        keyring: of the node that the store belongs to.
        progress: called after each step with the number of values so far; raises to end the
            upgrade.
        accepts_unreadable: whether values with a damaged or missing file may be left out.

    The private attributes count what was done so far. `_spaces` contains the spaces that were read,
    by their hashes.
    """

    store: Store
    values: Values
    keyring: Keyring
    progress: Callable[[int], Awaitable[None]]
    accepts_unreadable: bool = False
    _examined: int = 0
    _unreadable: int = 0
    _numbered: int = 0
    _spaces: dict[bytes, SpaceId | None] = field(default_factory=dict)

    async def run(self) -> Upgraded:
        """Record the paths of all content keys, number all values, and then state the schema.

        A store of the present schema is not changed.

        Raises:
            RecordDamaged, RecordError: a row does not decode.
            StoreUnavailable, StoreFull: the store or the place of large values does not answer, or
                accepts no rows.
            StoreBusy: another process changed the schema meanwhile.
            StoreMisused: the file of a value is damaged or missing, and that was not accepted.
        """
        schema_row = await read_row(self.store, SCHEMA_KEY)
        put = schema_put(expect=stamp_of(schema_row))
        if schema_row is not None and schema_row.value != put.value:
            if schema_row.value == _WITHOUT_CONTENT_KEYS:
                await self._record_content_keys()
            await self._number_values()
            if not await commit_puts(self.store, put):
                raise StoreBusy("another process changed the schema of the store")
        keys, at_two_paths = await self._count_keys()
        return Upgraded(
            schema=SCHEMA_VERSION,
            values=self._examined,
            numbered=self._numbered,
            unreadable=self._unreadable,
            keys=keys,
            at_two_paths=at_two_paths,
        )

    async def _record_content_keys(self) -> None:
        """Record the paths of the content keys in all values and versions (ST23)."""
        for prefix in (VALUES_PREFIX, LONG_VALUES_PREFIX, VERSIONS_PREFIX):
            async for page in pages_of(self.store, Range(prefix, limit=_PAGE_ROWS)):
                await self._record_page(page)
                await self.progress(self._examined)
        self._require_all_read()

    async def _number_values(self) -> None:
        """Give each value without a number the next one of its space (ST25).

        Values are numbered in the order of the keys of their rows. Those that one commit writes
        have the same number, as if one call had written them. Nothing else of the rows changes.
        """
        for prefix in (VALUES_PREFIX, LONG_VALUES_PREFIX):
            async for page in pages_of(self.store, Range(prefix, limit=_PAGE_ROWS)):
                puts = _puts_of_numbers(page)
                if puts and not await commit_puts(self.store, *puts):
                    raise StoreBusy("another process changed the store")
                self._numbered += len(puts)
                await self.progress(self._examined + self._numbered)

    def _require_all_read(self) -> None:
        """Check that no value was left out without the operator's consent.

        The path of a value that was left out is not recorded. If its file came back later, its
        envelope could be stored at another path first.
        """
        if self._unreadable and not self.accepts_unreadable:
            raise StoreMisused(
                f"the store was not upgraded: the files of {self._unreadable} values are damaged or"
                " missing",
                hint="put the files back where the store keeps large values, and run the same"
                " command again; if they are lost for good, add --accept-unreadable",
            )

    async def _record_page(self, page: Page) -> None:
        """Record the paths of the content keys in a page of values or versions."""
        sealed_by_space: dict[SpaceId, list[tuple[str, SealedKey]]] = defaultdict(list)
        for key, record in page.rows:
            head = _value_in_row(key, record)
            if head is None:
                continue
            self._examined += 1
            sealed_key = await self._find_sealed_key(head)
            if sealed_key is None:
                continue
            space = await self._read_space(key[SPACE16_IN_KEY])
            if space is not None:
                sealed_by_space[space].append((head.path, sealed_key))
        for space, sealed in sealed_by_space.items():
            stored = await stored_keys_of(self.store, self.keyring, space, sealed, most_tries=None)
            plan = await plan_key_places(self.store, stored, account=space_keys(space).rows)
            if not plan.puts:
                continue
            commit = Commit(puts=plan.puts, checks=plan.checks)
            if isinstance(await self.store.commit(commit), Refused):
                raise StoreBusy("another process changed the store")

    async def _find_sealed_key(self, head: Head) -> SealedKey | None:
        """Return the wrapped key in a value.

        Returns None if the value is not an envelope. It is also None if the value's file is damaged
        or missing, and such a value is counted as unreadable.
        """
        if head.size_bytes > MOST_ENVELOPE_BYTES:
            return None
        try:
            return find_sealed_key(await self.values.read_body(head))
        except RecordDamaged:  # the file is damaged or missing
            self._unreadable += 1
            return None

    async def _read_space(self, space16: bytes) -> SpaceId | None:
        """Return the space with a hash; None if no space with this hash was ever hosted."""
        if space16 not in self._spaces:
            hosted = space_of(await read_row(self.store, space_key(space16)))
            self._spaces[space16] = None if hosted is None else hosted.space
        return self._spaces[space16]

    async def _count_keys(self) -> tuple[int, int]:
        """Return the number of recorded content keys, and of those at two paths."""
        keys = at_two_paths = 0
        async for page in pages_of(self.store, Range(KEY_PLACES_PREFIX, limit=_COUNTED_ROWS)):
            for _, record in page.rows:
                places = key_places_of(record)
                if places is None:
                    continue
                keys += 1
                if places.other is not None:
                    at_two_paths += 1
        return keys, at_two_paths


def _value_in_row(key: bytes, record: Record) -> Head | None:
    """Return the value in a row; None for a deleted value and for an index row of long paths."""
    if not has_value(record):
        return None
    # The key of a version may end with the byte that marks index rows.
    is_version = key[:1] == VERSIONS_PREFIX
    if is_index_row(key) and not is_version:
        return None
    return head_of(record, key=key)


def _puts_of_numbers(page: Page) -> list[Put]:
    """Return the puts that give the values of a page a number, if they have none."""
    puts: list[Put] = []
    for key, record in page.rows:
        head = _value_in_row(key, record)
        if head is None or record.position:  # no value, or one with a number
            continue
        put = Put(
            key,
            record.value,
            expect=record.stamp,
            weight_bytes=0 if head.body is None else len(head.body),
            account=usage_counter(key[SPACE16_IN_KEY]),
            sequence=SEQUENCES_PREFIX + key[SPACE16_IN_KEY],
        )
        puts.append(put)
    return puts
