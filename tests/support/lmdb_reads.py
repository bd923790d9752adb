"""Reads of an open LMDB environment, without an event loop."""

from collections.abc import Sequence
from contextlib import ExitStack

import lmdb

from spaces.store.contract import Range, ReplayRecord, Snapshot
from spaces.store.lmdb._replay_records import ReplayRecords
from spaces.store.lmdb.engine import _LmdbStore


def read(
    env: lmdb.Environment,
    replay_records: ReplayRecords,
    keys: Sequence[bytes] = (),
    *,
    replay_record: ReplayRecord | None = None,
    ranges: Sequence[Range] = (),
) -> Snapshot:
    """Read as a store does."""
    store = _LmdbStore(env, replay_records=replay_records, writer=None, opened=ExitStack())
    reading = store.read(keys, replay_record=replay_record, ranges=ranges)
    try:
        reading.send(None)
    except StopIteration as ended:
        snapshot: Snapshot = ended.value
        return snapshot
    raise AssertionError("a read of LMDB waited")
