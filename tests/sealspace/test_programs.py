"""Publishing programs and reading them (RN50 to RN55), on a real node, by both clients."""

import asyncio
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from fuzz_strategies import json_values
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from sealspace.apps.programs import (
    ACTIVE_TYPE,
    MAX_PROGRAM_BYTES,
    VERSION_TYPE,
    Active,
    ProgramManifest,
    Provenance,
    Reader,
    Version,
    parse_active,
    parse_program_manifest,
    parse_version,
    read_active,
    read_code,
    read_version,
    version_json,
)
from sealspace.client import Client, SignIn
from sealspace.documents.builds import Build
from sealspace.documents.project_names import ProjectId, parse_project
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import InvalidInput, NotFound, PreconditionFailed, StatementInvalid
from sealspace.wallets import new_wallet

OLD, NEW = b"\0asm old", b"\0asm new"
PROJECTS = SignIn(spaces=("projects", "public"))
P1 = "wasm32-wasip1"


class Program(NamedTuple):
    """The result of reading a program, without `active` if it was read by its hash."""

    version: Version
    code: bytes
    active: Active | None


async def read_program(
    read: Reader, project: ProjectId, *, sha256: str | None = None
) -> Program | None:
    """Read a program as a runner does: the statements, then the bytes."""
    active = None if sha256 is not None else await read_active(read, project)
    wanted = sha256 if active is None else active
    version = None if wanted is None else await read_version(read, project, wanted)
    code = None if version is None else await read_code(read, version)
    return None if version is None or code is None else Program(version, code, active)


def reader(client: Client, *, public: bool = False) -> Any:
    async def read(key: str) -> bytes | None:
        try:
            return (await client.kv("public" if public else "projects").get(key)).body
        except NotFound:
            return None

    return read


async def test_publish_show_and_go_back(bench) -> None:
    client, wallet = await bench.owner(PROJECTS)
    programs = client.programs()
    manifest = ProgramManifest(secrets=("API_KEY",), hosts=("api.example.com",))
    old = await programs.publish(
        "digest", OLD, target=P1, signer=wallet, source="https://example.com/digest"
    )
    new = await programs.publish(
        "digest", NEW, target="wasm32-wasip2", signer=wallet, manifest=manifest
    )
    # published within one moment of the clock
    assert await programs.versions("digest") in ((old, new), (new, old))
    assert await programs.active("digest") == Active(new.sha256, 2, new.statement_sha256)
    project = parse_project(f"{wallet.did}/digest")
    found = await read_program(reader(client), project)
    assert found is not None and found.code == NEW and found.version == new
    assert found.active == Active(new.sha256, 2, new.statement_sha256)
    assert await programs.activate("digest", old.sha256, signer=wallet) == Active(
        old.sha256, 3, old.statement_sha256
    )
    back = await read_program(reader(client), project)
    assert back is not None and back.code == OLD
    named = await read_program(reader(client), project, sha256=new.sha256)
    assert named is not None and named.code == NEW and named.active is None
    assert [name async for name in programs.names()] == ["digest"]


async def test_what_is_not_there(bench) -> None:
    client, wallet = await bench.owner(PROJECTS)
    programs = client.programs()
    assert await programs.active("digest") is None
    assert await programs.versions("digest") == ()
    assert await read_program(reader(client), parse_project(f"{wallet.did}/digest")) is None
    with pytest.raises(NotFound):
        await programs.activate("digest", "ab" * 32, signer=wallet)
    await programs.publish("digest", OLD, target=P1, signer=wallet, activate=False)
    assert await programs.active("digest") is None


async def test_the_index_of_builds_loses_a_removed_version(bench) -> None:
    """PV13: removing a version removes its commit's entry from the index of builds."""
    client, wallet = await bench.owner(PROJECTS)
    programs, commit = client.programs(), "a1" * 20
    repository = "github.com/alice/project"
    build = Build(
        repository=repository,
        repository_id="1001",
        ref="refs/heads/main",
        commit=commit,
        workflow=f"{repository}/.github/workflows/release.yml",
    )
    old, new = [
        await programs.publish(
            "digest", one, target=P1, signer=wallet, provenance=Provenance(build, b"{}")
        )
        for one in (OLD, NEW)
    ]
    index = old.project.build_key(commit, P1)
    await programs.remove("digest", old.sha256, signer=wallet)
    assert (await client.kv("projects").get(index)).body.decode() == new.sha256
    await programs.publish("digest", OLD, target=P1, signer=wallet)
    await programs.remove("digest", new.sha256, signer=wallet)
    left = [key async for key in client.kv("projects").list("projects/digest/")]
    assert [key for key in left if "/builds/" in key or key.endswith(new.sha256)] == []


async def test_a_public_program_is_read_by_everybody(bench) -> None:
    client, wallet = await bench.owner(PROJECTS)
    version = await client.programs(public=True).publish("digest", OLD, target=P1, signer=wallet)
    stranger = await bench.client()
    public = stranger.public(client.kv("public").space.text)

    async def read(key: str) -> bytes | None:
        return (await public.get(key)).body

    found = await read_program(read, parse_project(f"{wallet.did}/digest"))
    assert found is not None and found.version == version


async def test_another_signer_and_impossible_programs_are_refused_before_anything_is_stored(
    bench,
) -> None:
    client, wallet = await bench.owner(PROJECTS)
    programs = client.programs()
    for signer in (new_wallet(), Ed25519Signer(bytes(32)), client.session.signer):
        with pytest.raises(InvalidInput, match="must be signed by its developer"):
            await programs.publish("digest", OLD, target=P1, signer=signer)
    for name in ("", "-a", "A", "a/b", "a" * 65):
        with pytest.raises(InvalidInput):
            await programs.publish(name, OLD, target=P1, signer=wallet)
    for wasm in (b"", bytes(MAX_PROGRAM_BYTES + 1)):
        with pytest.raises(InvalidInput):
            await programs.publish("digest", wasm, target=P1, signer=wallet)
    for source in ("", "a\nb", "x" * 513):
        with pytest.raises(InvalidInput):
            await programs.publish("digest", OLD, target=P1, signer=wallet, source=source)
    assert [key async for key in client.kv("projects").list("")] == []


async def test_of_two_activations_at_once_one_is_refused(bench) -> None:
    client, wallet = await bench.owner(PROJECTS)
    old = await client.programs().publish("digest", OLD, target=P1, signer=wallet)
    stated = {"project": f"{wallet.did}/digest", "sha256": old.sha256, "sequence": 2}
    between = sign_statement(ACTIVE_TYPE, stated, wallet)

    class Late:
        """A wallet that signs only after another version has become active."""

        address, chain_id, did = wallet.address, wallet.chain_id, wallet.did

        def sign_eip191(self, text: str) -> bytes:
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, put_between()).result()
            return wallet.sign_eip191(text)

    async def put_between() -> None:
        async with Client(client.url, session=client.session, clock=bench.clock) as other:
            await other.kv("projects").put("projects/digest/active", between)

    with pytest.raises(PreconditionFailed):
        await asyncio.to_thread(asyncio.run, activate_late(client, old.sha256, Late(), bench.clock))
    assert await client.programs().active("digest") == Active(old.sha256, 2, None)


async def activate_late(client: Client, sha256: str, wallet: Any, clock: Any) -> None:
    # In a loop of its own: the wallet blocks its own, and the node of the test answers in the
    # test's.
    async with Client(client.url, session=client.session, clock=clock) as late:
        await late.programs().activate("digest", sha256, signer=wallet)


KEY = Ed25519Signer(bytes(range(32)))
PROJECT = parse_project(f"{KEY.did}/digest")
SHA256 = hashlib.sha256(OLD).hexdigest()
STATED: dict[str, Any] = {
    "project": PROJECT.text,
    "sha256": SHA256,
    "bytes": len(OLD),
    "target": P1,
    "publishedAt": "2026-11-18T11:06:40.000Z",
}


OWN: dict[str, Any] = {"profile": "default", "secrets": ["A"]}


def test_a_version_says_what_it_is_about() -> None:
    version = parse_version(sign_statement(VERSION_TYPE, STATED, KEY), PROJECT, SHA256)
    assert version_json(version) == STATED
    manifest = {"secrets": [], "hosts": ["a"], "developer": OWN}
    wanted = STATED | {"source": "x", "manifest": manifest}
    assert (
        version_json(parse_version(sign_statement(VERSION_TYPE, wanted, KEY), PROJECT, SHA256))
        == wanted
    )


@pytest.mark.parametrize(
    "members",
    [
        {"project": f"{KEY.did}/other"},
        {"sha256": "cd" * 32},
        {"bytes": 0},
        {"bytes": True},
        {"bytes": MAX_PROGRAM_BYTES + 1},
        {"bytes": "8"},
        {"target": "wasm32-unknown-unknown"},
        {"publishedAt": 7},
        {"source": 7},
        {"manifest": None},
        {"manifest": {"more": 1}},
        {"manifest": {"secrets": ["a"]}},
        {"manifest": {"secrets": ["A", "A"]}},
        {"manifest": {"secrets": [f"K{number}" for number in range(33)]}},
        {"manifest": {"hosts": ["A.example.com"]}},
        {"manifest": {"secrets": ["A"], "developer": OWN}},  # no name twice (RN212)
        {"manifest": {"developer": OWN}},  # callers' variables would be unbounded
        {"manifest": {"secrets": [], "developer": OWN | {"secrets": []}}},
        {"manifest": {"secrets": [], "developer": OWN | {"secrets": ["a"]}}},
        {"manifest": {"secrets": [], "developer": OWN | {"secrets": ["A", "A"]}}},
        {"manifest": {"secrets": [], "developer": OWN | {"profile": "Prod"}}},
        {"manifest": {"secrets": [], "developer": OWN | {"profile": 7}}},
        {"manifest": {"secrets": [], "developer": OWN | {"owner": KEY.did}}},
        {"manifest": {"secrets": [], "developer": {"profile": "default"}}},
        {"manifest": {"secrets": ["B"] + [f"K{n}" for n in range(31)], "developer": OWN}},
        {"more": 1},
        {"publishedAt": ...},
    ],
)
def test_versions_that_are_refused(members: dict[str, Any]) -> None:
    stated = {name: value for name, value in (STATED | members).items() if value is not ...}
    with pytest.raises(StatementInvalid):
        parse_version(sign_statement(VERSION_TYPE, stated, KEY), PROJECT, SHA256)


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"project": PROJECT.text, "sha256": SHA256},
        {"project": PROJECT.text, "sha256": SHA256, "sequence": 0},
        {"project": PROJECT.text, "sha256": SHA256, "sequence": True},
        {"project": PROJECT.text, "sha256": SHA256, "sequence": 2**53},
        {"project": PROJECT.text, "sha256": SHA256[:-1], "sequence": 1},
        {"project": f"{KEY.did}/other", "sha256": SHA256, "sequence": 1},
        {"project": PROJECT.text, "sha256": SHA256, "sequence": 1, "more": 1},
        {"project": PROJECT.text, "sha256": SHA256, "sequence": 1, "statementSha256": None},
        {"project": PROJECT.text, "sha256": SHA256, "sequence": 1, "statementSha256": SHA256[:-1]},
    ],
)
def test_active_statements_that_are_refused(stated: dict[str, Any]) -> None:
    with pytest.raises(StatementInvalid):
        parse_active(sign_statement(ACTIVE_TYPE, stated, KEY), PROJECT)


def active_statement(version: bytes) -> bytes:
    """Return a statement that the version of these bytes is active."""
    stated: dict[str, Json] = {"project": PROJECT.text, "sha256": SHA256, "sequence": 1}
    return sign_statement(
        ACTIVE_TYPE, stated | {"statementSha256": hashlib.sha256(version).hexdigest()}, KEY
    )


async def test_another_statement_about_the_active_version_is_refused() -> None:
    """RN177: an older statement about the active version's bytes is refused."""
    manifest: Json = {"hosts": ["other.example"]}
    narrow, wide = (
        sign_statement(VERSION_TYPE, STATED | more, KEY) for more in ({}, {"manifest": manifest})
    )
    unnamed = sign_statement(
        ACTIVE_TYPE, {"project": PROJECT.text, "sha256": SHA256, "sequence": 1}, KEY
    )
    stored = {PROJECT.version_key(SHA256): narrow, PROJECT.code_key(SHA256): OLD}

    async def read(key: str) -> bytes | None:
        return stored.get(key)

    for active in (active_statement(wide), unnamed):
        stored[PROJECT.active_key] = active
        with pytest.raises(
            StatementInvalid, match=f"sealspace project activate {PROJECT.name} {SHA256}"
        ):
            await read_program(read, PROJECT)
        assert await read_program(read, PROJECT, sha256=SHA256) is not None
    stored[PROJECT.active_key] = active_statement(narrow)
    assert await read_program(read, PROJECT) is not None


async def test_an_active_version_of_a_former_release_is_activated_again(bench) -> None:
    """RN177: numbering continues after an active statement without a hash, as former releases wrote
    it."""
    client, wallet = await bench.owner(PROJECTS)
    version = await client.programs().publish("digest", OLD, target=P1, signer=wallet)
    stated: dict[str, Json] = {
        "project": version.project.text,
        "sha256": version.sha256,
        "sequence": 7,
    }
    former = sign_statement(ACTIVE_TYPE, stated, wallet)
    await client.kv("projects").put(version.project.active_key, former)
    with pytest.raises(StatementInvalid, match="sealspace project activate"):
        await read_program(reader(client), version.project)
    again = await client.programs().activate("digest", version.sha256, signer=wallet)
    assert again == Active(version.sha256, 8, version.statement_sha256)
    assert await read_program(reader(client), version.project) is not None


async def test_bytes_that_nobody_signed_are_refused() -> None:
    version = sign_statement(VERSION_TYPE, STATED, KEY)
    stored = {
        PROJECT.active_key: active_statement(version),
        PROJECT.version_key(SHA256): version,
        PROJECT.code_key(SHA256): OLD,
    }

    async def read(key: str) -> bytes | None:
        return stored.get(key)

    found = await read_program(read, PROJECT)
    assert found is not None and found.code == OLD
    for key, data in (
        (PROJECT.code_key(SHA256), NEW),
        (PROJECT.active_key, stored[PROJECT.version_key(SHA256)]),  # a statement of another type
        (
            PROJECT.version_key(SHA256),
            sign_statement(VERSION_TYPE, STATED, Ed25519Signer(bytes(32))),
        ),
        (PROJECT.version_key(SHA256), json.dumps({"project": PROJECT.text}).encode()),
    ):
        held, stored[key] = stored[key], data
        with pytest.raises(StatementInvalid):
            await read_program(read, PROJECT)
        stored[key] = held
    del stored[PROJECT.code_key(SHA256)]
    assert await read_program(read, PROJECT) is None


def test_manifests() -> None:
    assert parse_program_manifest({}) == ProgramManifest()
    assert parse_program_manifest({"secrets": []}) != ProgramManifest()  # it names them: none
    values: list[Any] = [None, [], {"secrets": "A"}, {"hosts": "a"}]
    for value in values:
        with pytest.raises(InvalidInput):
            parse_program_manifest(value)
    twice: Json = {"secrets": ["A"], "developer": {"profile": "default", "secrets": ["A"]}}
    with pytest.raises(InvalidInput, match="the developer's included, without duplicates"):
        parse_program_manifest(twice)


@fuzzed()
@given(st.binary(max_size=200), json_values())
def test_fuzz_statements(data: bytes, value: Any) -> None:
    """Any answer of a node is parsed as a statement of the developer or raises StatementInvalid."""
    documents = [data]
    with suppress(StatementInvalid):  # not everything can be signed
        documents += [
            sign_statement(kind, {"sha256": value}, KEY) for kind in (VERSION_TYPE, ACTIVE_TYPE)
        ]
    for document in documents:
        with pytest.raises(StatementInvalid):
            parse_version(document, PROJECT, SHA256)
        with pytest.raises(StatementInvalid):
            parse_active(document, PROJECT)
    with suppress(InvalidInput):
        parse_program_manifest(value)
