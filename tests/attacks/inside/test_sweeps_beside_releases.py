"""Concurrent sweeps of documents and releases that refer to them, on both engines."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from postgres_server import needs_postgres, postgres_server

from spaces.documents.receipt_rows import (
    PERIOD_S,
    cited_document_puts,
    document_use_row_key,
    sweep_documents,
)
from spaces.keyspace import document_key
from spaces.store.contract import Commit, Committed, Store
from spaces.store.lmdb.engine import open_lmdb
from spaces.store.postgres.engine import open_postgres

SPAN_AT = 700 * PERIOD_S + 1000.0
LATER_AT = SPAN_AT + 50 * PERIOD_S


@pytest.fixture(params=["lmdb", pytest.param("postgres", marks=needs_postgres())])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    is_lmdb = request.param == "lmdb"
    opened: Store = (
        open_lmdb(tmp_path / "data") if is_lmdb else open_postgres(postgres_server().new_database())
    )
    yield opened
    await opened.close()


async def referred(store: Store, documents: list[bytes]) -> None:
    """Refer to documents as a release does, and retry while the store refuses."""
    puts = tuple(
        put for document in documents for put in cited_document_puts(document, now=LATER_AT)
    )
    while not isinstance(await store.commit(Commit(puts=puts)), Committed):
        pass


async def test_a_sweep_and_releases_at_the_same_moment(store: Store) -> None:
    """Sweeps delete no document that a concurrent release refers to (RC26)."""
    documents = [b"document %d" % number for number in range(40)]
    for document in documents:
        await store.commit(Commit(puts=cited_document_puts(document, now=SPAN_AT)))
    used = documents[::2]
    sweeps = [sweep_documents(store, until=LATER_AT - 4 * PERIOD_S, now=LATER_AT) for _ in range(2)]
    releases = [referred(store, used[at : at + 2]) for at in range(0, len(used), 2)]
    await asyncio.gather(*sweeps, *releases)
    while await sweep_documents(store, until=LATER_AT - 4 * PERIOD_S, now=LATER_AT):
        pass
    for document in documents:
        digest = hashlib.sha256(document).digest()
        keys = (document_key(digest), document_use_row_key(digest, now=LATER_AT))
        row, use = (await store.read(keys)).records
        is_there = row is not None and row.value is not None
        is_noted = use is not None and use.value is not None
        assert is_there == is_noted == (document in used), document
