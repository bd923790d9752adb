"""A published data set, as a runner finds it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import pytest_asyncio
from https_service import Service, https_service
from msgspec import structs, to_builtins
from runner_stage import RunnerStage, runner_stage

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.strict_base64 import encode_standard
from runner.tasks.dataset_fetch import fetch_dataset
from sealspace.documents.dataset_format import (
    DATASET_TYPE,
    MAX_ENCRYPTED_BYTES,
    DatasetRecord,
    encrypt,
    parse_dataset,
)
from sealspace.documents.project_names import ProjectId, parse_project
from sealspace.documents.signed_statements import (
    MAX_STATEMENT_BYTES,
    StatementSigner,
    sign_statement,
)
from sealspace.errors import StatementInvalid
from sealspace.wallets import new_wallet
from serving.outbound import Outbound

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = bytes(range(32))
PLAIN = b"name,age\nAda,36\n" * 20_000
BLOB = b"".join(encrypt("aead-chunked-v1", KEY, BytesIO(PLAIN).read, SystemEntropy()))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service with the encrypted file."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BLOB) + BLOB)
        writer.close()

    folder = tmp_path_factory.mktemp("service")
    async with https_service(folder, "files.test", talk=talk) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, service: Service
) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module."""
    async with AsyncExitStack() as stack:
        outbound = Outbound(loopback_ca=service.ca)
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"), outbound=outbound)


def stated(dataset: ProjectId, service: Service) -> DatasetRecord:
    return DatasetRecord(
        dataset=dataset.text,
        url=service.url("/survey.enc"),
        checksum=f"0x{hashlib.sha256(BLOB).hexdigest()}",
        size_bytes=len(BLOB),
        suite="aead-chunked-v1",
        published_at="2026-01-01T00:00:00Z",
    )


async def published(stage: RunnerStage, dataset: ProjectId) -> DatasetRecord | None:
    read = stage.runner.programs.public_reader(dataset, MAX_STATEMENT_BYTES)
    data = await read(dataset.dataset_key)
    return None if data is None else parse_dataset(data, dataset)


async def put(
    stage: RunnerStage, dataset: ProjectId, record: DatasetRecord, signer: StatementSigner
) -> None:
    statement = sign_statement(DATASET_TYPE, to_builtins(record), signer)
    await stage.owner.kv("public").put(dataset.dataset_key, statement)


async def test_a_published_data_set_arrives(
    stage: RunnerStage, service: Service, tmp_path: Path
) -> None:
    """DS10, DS11, DS12: a runner finds a published data set by its id, downloads and decrypts
    it."""
    dataset = parse_project(f"{stage.developer}/survey")
    await put(stage, dataset, stated(dataset, service), stage.wallet)
    record = await published(stage, dataset)
    assert record is not None and record == stated(dataset, service)
    size = await fetch_dataset(
        stage.runner.executor.outbound,
        record,
        encode_standard(KEY),
        tmp_path / "survey",
        max_bytes=MAX_ENCRYPTED_BYTES,
    )
    assert size == len(PLAIN) and (tmp_path / "survey").read_bytes() == PLAIN


async def test_statements_that_the_runner_refuses(stage: RunnerStage, service: Service) -> None:
    """DS7, DS12: a statement that is missing, by another signer, or about another data set is
    refused."""
    dataset = parse_project(f"{stage.developer}/other")
    assert await published(stage, dataset) is None
    record = stated(dataset, service)
    await put(stage, dataset, record, new_wallet())
    with pytest.raises(StatementInvalid):
        await published(stage, dataset)
    await put(stage, dataset, stated(replace(dataset, name="survey"), service), stage.wallet)
    with pytest.raises(StatementInvalid):
        await published(stage, dataset)
    for size in (100, 200):
        current = structs.replace(record, size_bytes=size)
        await put(stage, dataset, current, stage.wallet)
        assert await published(stage, dataset) == current
