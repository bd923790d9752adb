"""Fuzz tests of publications, grants and revocations: a version without a proven build gets no
secret.

The owner grants as the commands do: it reads the active version, verifies its bundle, and grants to
its hash (PV11, PV14). A job with a token of the owner does the same (PV15). Developers publish
anything, and state any origin.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from hashlib import sha256 as hashed
from secrets import token_bytes
from typing import Any

import pytest
import wasmtime
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from job_grants import granted_by_job
from loop_thread import LoopThread, loop_thread
from runner_stage import ENVIRONMENT, P1, RunnerStage, runner_stage
from sigstore_authority import SigstoreAuthority

from capabilities.signatures import Ed25519Signer
from node.config.tree import Limits
from sealspace.apps.programs import Provenance, read_active
from sealspace.apps.provenance import parse_trusted_root, require_build, verify_provenance
from sealspace.client import SignIn
from sealspace.documents.builds import Build
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.project_names import ProjectId, parse_project
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.errors import NotFound, ProvenanceInvalid
from sealspace.session import Session, key_session, read_grant
from sealspace.wallets import new_wallet
from sealspace.wire.portable import PortableDelegation
from tee_backend.backend.held_grants import MOST_OF_AN_OWNER

SECRET = "open sesame"
REPOSITORY, REF = "github.com/alice/project", "refs/heads/main"
COMMITS = ("a1" * 20, "b2" * 20)
AUTHORITY, FORGER = SigstoreAuthority(), SigstoreAuthority()
ROOT = parse_trusted_root(AUTHORITY.trusted_root)
OTHER_ORIGINS = (
    {"repository": "github.com/mallory/project"},
    {"repository_id": "1002"},
    {"ref": "refs/heads/feature"},
    {"trigger": "pull_request_target"},
    {"environment": "self-hosted"},
    {"issuer": "https://issuer.example"},
    {"workflow": "github.com/mallory/project/.github/workflows/release.yml"},
)
STATED = {
    commit: Build(
        repository=REPOSITORY,
        repository_id="1001",
        ref=REF,
        commit=commit,
        workflow=f"{REPOSITORY}/.github/workflows/release.yml",
    )
    for commit in COMMITS
}

names, contents, commits = st.sampled_from("pq"), st.integers(0, 2), st.sampled_from(COMMITS)
ways = st.sampled_from(["active", "version", "hash", "build", "index"])
REFUSALS = ("access-denied", "program-unknown", "request-invalid")


class World:
    """A runner, and a developer who is no owner of secrets."""

    def __init__(self, loop: LoopThread, stage: RunnerStage) -> None:
        self.run, self.stage, self.serial = loop.run, stage, 0
        self.seen, self.stranger = loop.run(stage.look()), loop.run(self.person())
        self.delivered = Counter[str]()

    async def person(self) -> RunnerStage:
        """Return the stage with another owner, who has a secret."""
        client, wallet = await self.stage.client(), new_wallet()
        await client.sign_in(wallet, SignIn(spaces=("public", "projects")))
        await client.secrets().put("API_KEY", SECRET)
        return replace(self.stage, owner=client, wallet=wallet)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("runner")

    @asynccontextmanager
    async def staged() -> AsyncIterator[RunnerStage]:
        async with AsyncExitStack() as stack:
            limits = Limits(challenges_per_minute=100_000)
            yield await runner_stage(stack, folder, node_limits=limits)

    with loop_thread() as loop, loop.entered(staged()) as stage:
        yield World(loop, stage)


class Grants:
    """Steps of developers, of an owner, and of callers. The owner is a developer too."""

    def __init__(self, world: World) -> None:
        world.serial += 1
        self.world, self.number, self.made = world, world.serial, 0
        self.stage = world.run(world.person())
        self.developers = {"p": self.stage, "q": world.stranger}
        self.proven = set[str]()  # hashes in bundles of the wanted origin
        self.live = list[tuple[str, ProjectId, Build, PortableDelegation]]()
        self.jobs = dict[str, Session]()

    def project(self, name: str) -> ProjectId:
        return parse_project(f"{self.developers[name].developer}/{name}{self.number}")

    def wasm(self, content: int) -> bytes:
        own = f'(data (i32.const 900) "{self.number} {content}")'
        return bytes(wasmtime.wat2wasm(f"{ENVIRONMENT.rstrip().removesuffix(')')} {own})"))

    def publish(self, name: str, content: int, commit: str, bundle: bytes | None) -> None:
        developer = self.developers[name]
        self.world.run(
            developer.owner.programs(public=True).publish(
                self.project(name).name,
                self.wasm(content),
                target=P1,
                signer=developer.wallet,
                provenance=None if bundle is None else Provenance(STATED[commit], bundle),
            )
        )

    def sha256(self, content: int) -> str:
        return hashed(self.wasm(content)).hexdigest()

    def publish_a_build(self, name: str, content: int, commit: str) -> None:
        sha256 = self.sha256(content)
        self.proven.add(sha256)
        self.publish(name, content, commit, AUTHORITY.bundle(sha256, commit=commit))

    def publish_a_build_of_another_origin(
        self, name: str, content: int, commit: str, origin: dict[str, Any]
    ) -> None:
        bundle = AUTHORITY.bundle(self.sha256(content), commit=commit, **origin)
        self.publish(name, content, commit, bundle)

    def publish_with_a_false_bundle(
        self, name: str, content: int, about: int, commit: str, how: int
    ) -> None:
        own, other = self.sha256(content), self.sha256(about)
        genuine = AUTHORITY.bundle(self.sha256(9), commit=commit)  # about bytes of nobody
        bundle = (
            genuine,
            FORGER.bundle(own, commit=commit),
            genuine.replace(self.sha256(9).encode(), other.encode()),
            None,
        )[how]
        self.publish(name, content, commit, bundle)

    async def proven_build(self, project: ProjectId) -> tuple[str, Build] | None:
        """Return the active version of a project, if its bundle proves the wanted origin."""
        stage = self.stage
        space = stage.owner.public(f"tinycloud:{project.developer[4:]}:public")

        async def read(key: str) -> bytes | None:
            try:
                return (await space.get(key)).body
            except NotFound:
                return None

        if (active := await read_active(read, project)) is None or active.sha256 is None:
            return None
        if self.made == MOST_OF_AN_OWNER:  # further ones replace grants that are not used
            return None
        bundle = await read(project.provenance_key(active.sha256)) or b""
        try:
            build = verify_provenance(bundle, active.sha256, ROOT)
            require_build(build, repository=REPOSITORY, ref=REF, repository_id="1001")
        except ProvenanceInvalid:
            return None
        self.made += 1
        return active.sha256, build

    async def granted(self, project: ProjectId) -> bool:
        """Grant to the active version of a project, if its bundle proves the wanted origin."""
        if (proven := await self.proven_build(project)) is None:
            return False
        stage, (sha256, build) = self.stage, proven
        run = RunStatement(programs=(ByHash(sha256, project, build),), callers=AllowAll())
        portable = await stage.owner.runners.grant(
            self.world.seen, ["API_KEY"], run, wallet=stage.wallet
        )
        await stage.runner.accept(portable)
        self.live.append((sha256, project, build, portable))
        return True

    async def granted_by_job(self, project: ProjectId, *, is_interrupted: bool) -> None:
        """Make a job's grant to the active version, and revoke the job's former grants."""
        if (proven := await self.proven_build(project)) is None:
            return
        stage, (sha256, build) = self.stage, proven
        if project.name not in self.jobs:
            seed = token_bytes(32)
            key = Ed25519Signer(seed)
            run = RunStatement(
                programs=(ByHash(sha256, project, build),),
                callers=AllowAll(),
                refresh_for=self.world.seen.did,
            )
            offer = await stage.owner.runners.grant(
                self.world.seen, ["API_KEY"], run, wallet=stage.wallet, job=key.did
            )
            self.jobs[project.name] = key_session(seed).with_grant(read_grant(offer.header))
        session = self.jobs[project.name]
        portable = granted_by_job(session, sha256, build.commit)
        former = json.loads(await stage.runner.accept(portable) or b"{}")
        if not is_interrupted:
            await (await stage.client(session)).delegations.revoke(*former)
        self.live = [one for one in self.live if one[3].cid not in former]
        self.live.append((sha256, project, build, portable))

    def refresh_by_job(self, name: str, is_interrupted: bool) -> None:
        project = self.project(name)
        self.world.run(self.granted_by_job(project, is_interrupted=is_interrupted))

    def grant(self, name: str) -> None:
        self.world.run(self.granted(self.project(name)))

    def revoke(self, at: int) -> None:
        if self.live:
            *_, portable = self.live.pop(at % len(self.live))
            stage = self.stage
            self.world.run(stage.owner.delegations.revoke_by_wallet(portable, stage.wallet))

    def refresh(self, at: int) -> None:
        if self.live:
            at %= len(self.live)
            if self.world.run(self.granted(self.live[at][1])):
                self.revoke(at)

    def publish_and_grant(self, name: str, content: int, commit: str) -> None:
        self.publish_a_build(name, content, commit)
        self.grant(name)

    def call(self, name: str, content: int, commit: str, by: str) -> None:
        self.called(self.project(name), self.sha256(content), commit, by)

    def call_what_is_granted(self, at: int, by: str) -> None:
        if self.live:
            sha256, project, build, _ = self.live[at % len(self.live)]
            self.called(project, sha256, build.commit, by)

    def called(self, project: ProjectId, sha256: str, commit: str, by: str) -> None:
        named: dict[str, Any] = {"project": project.text}
        github: dict[str, Any] = {"GitHub": {"repo": REPOSITORY, "commit": commit}}
        source = {
            "active": named,
            "version": named | {"version": sha256},
            "hash": {"wasmSha256": sha256},
            "build": named | github,
            "index": github,
        }[by]
        stage = self.stage
        status, answer = self.world.run(stage.call("", source=source, secrets=stage.developer))
        stated = answer["receipt"]["statement"] if "receipt" in answer else {}
        if status != 200:
            assert SECRET not in str(answer)
            assert answer["error"]["code"] in REFUSALS, answer
            # what the owner granted runs, whatever else was published
            assert by != "version" or not self.is_live(sha256, project.text)
            return
        assert SECRET in answer["output"] and stated["secrets"] == "delivered"
        assert stated["program"] in self.proven
        assert self.is_live(stated["program"], stated["project"])
        assert stated["build"]["repository"] == REPOSITORY
        self.world.delivered[by] += 1

    def is_live(self, sha256: str, project: str) -> bool:
        return any((one[0], one[1].text) == (sha256, project) for one in self.live)


def step(name: str, /, **drawn: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), st.fixed_dictionaries(drawn))


STEPS = st.one_of(
    step("publish_a_build", name=names, content=contents, commit=commits),
    step(
        "publish_a_build_of_another_origin",
        name=names,
        content=contents,
        commit=commits,
        origin=st.sampled_from(OTHER_ORIGINS),
    ),
    step(
        "publish_with_a_false_bundle",
        name=names,
        content=contents,
        about=contents,
        commit=commits,
        how=st.integers(0, 3),
    ),
    step("grant", name=names),
    step("revoke", at=st.integers(0, 9)),
    step("refresh", at=st.integers(0, 9)),
    step("refresh_by_job", name=names, is_interrupted=st.booleans()),
    step("publish_and_grant", name=names, content=contents, commit=commits),
    step("call", name=names, content=contents, commit=commits, by=ways),
    step("call_what_is_granted", at=st.integers(0, 9), by=ways),
)


@pytest.mark.slow
def test_no_hash_gets_a_secret_that_no_bundle_proved(world: World) -> None:
    """RN240 to RN243, RN246, RN247, PV11, PV14, PV15: no program gets a secret without a proven
    build."""

    @settings(
        max_examples=10,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(STEPS, min_size=20, max_size=30))
    def play(steps: list[tuple[str, dict[str, Any]]]) -> None:
        grants = Grants(world)
        for name, drawn in steps:
            getattr(grants, name)(**drawn)

    play()
    # So few examples may have no such call.
    grants = Grants(world)
    grants.publish_and_grant("p", 0, COMMITS[0])
    for way in ("version", "build"):
        grants.call("p", 0, COMMITS[0], way)
    assert world.delivered.keys() >= {"version", "build"}
