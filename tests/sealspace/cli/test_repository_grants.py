"""Tests of grants to builds of a repository: publishing, granting, running and refreshing."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from job_grants import granted_by_job
from owner_desk import Ran
from page_blocks import blocks_of
from repository_owner import DAY, REF, REPOSITORY, SECRET, RepositoryOwner
from runner_stage import RunnerStage, runner_stage
from sigstore.models import ClientTrustConfig
from sigstore_authority import SigstoreAuthority
from tests_support import REPOSITORY as CHECKOUT
from tests_support import FixedClock

from capabilities.clock_and_entropy import SystemClock
from capabilities.signatures import Ed25519Signer
from capabilities.siwe import parse_rfc3339
from node.housekeeping.schedule import sweep_delegations
from sealspace.apps.backends import deliver
from sealspace.apps.provenance import parse_trusted_root
from sealspace.cli.exit_status import EXIT_STATUS
from sealspace.cli.owner.owner_profile import read_wallet
from sealspace.client import Client
from sealspace.documents.trusted_roots import named_root
from sealspace.errors import DecryptDenied, NotGranted
from sealspace.secrets import parse_secret_label
from sealspace.wire.token_line import read_token
from spaces.grants.delegations import KEPT_AFTER_EXPIRY_S

FIRST, SECOND = "a1" * 20, "b2" * 20
WORKFLOW = f"{REPOSITORY}/.github/workflows/release.yml"
PHRASE = "006H M9SM 8575 PT3N GA7S SADP RF8D VTQQ XWAY"
OTHER_RUNNER = Ed25519Signer(bytes(range(32))).did
INVALID = EXIT_STATUS["provenance-invalid"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def authority() -> SigstoreAuthority:
    """One Sigstore for the tests of this module."""
    return SigstoreAuthority()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, authority: SigstoreAuthority
) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module."""
    root = named_root(authority.trusted_root)
    async with AsyncExitStack() as stack:
        yield await runner_stage(
            stack, tmp_path_factory.mktemp("runner"), roots={root.sha256: root.document}
        )


@pytest_asyncio.fixture(loop_scope="module")
async def person(
    stage: RunnerStage,
    authority: SigstoreAuthority,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> RepositoryOwner:
    """A logged-in owner with a secret, for each test."""
    (tmp_path / "root.json").write_bytes(authority.trusted_root)
    desk = stage.desk(tmp_path, capsys, monkeypatch)
    await desk.log_in("--space", "public")
    assert (await desk.run("secret", "put", "API_KEY", given=SECRET)).status == 0
    owner = str(json.loads((await desk.run("whoami", "--json")).out)["owner"])
    return RepositoryOwner(
        desk=desk, stage=stage, authority=authority, folder=tmp_path, owner=owner
    )


async def test_from_a_build_to_the_next(person: RepositoryOwner) -> None:
    """PV11 to PV14: a repository's build gets the secret, and after a refresh only the next one."""
    desk, stage = person.desk, person.stage
    first = await person.publish(FIRST)
    assert first["build"]["commit"] == FIRST
    assert first["source"] == f"https://{REPOSITORY}/tree/{FIRST}"
    granted = await desk.run(*person.granting())
    assert granted.status == 0, granted
    for said in (REPOSITORY, REF, FIRST, WORKFLOW):
        assert said in granted.out
    assert "root.json, 0 days old" in granted.err
    assert await person.gets_the_secret(first["sha256"])
    unchanged = await desk.run(*person.refreshing())
    assert unchanged.status == 0, unchanged
    assert "unchanged" in unchanged.out
    (old,) = await person.grants()

    second = await person.publish(SECOND)
    assert not await person.gets_the_secret(second["sha256"])
    refreshed = await desk.run(*person.refreshing("--json", "--repository", REPOSITORY))
    assert refreshed.status == 0, refreshed
    (found,) = json.loads(refreshed.out)
    assert found["change"] == f"{FIRST} → {SECOND}"
    assert found["revoked"] == old["cid"]
    assert not await person.gets_the_secret(first["sha256"])
    assert await person.gets_the_secret(second["sha256"])
    (new,) = await person.grants()
    (rule,) = new["run"]["programs"]
    assert rule["wasmSha256"] == second["sha256"]
    assert rule["build"] == second["build"]
    for command in (("runner", "list"), ("grant", "list"), ("backend", "show", stage.url)):
        listed = (await desk.run(*command)).out
        assert REPOSITORY in listed and REF in listed and SECOND in listed, command
        described = (await desk.run(*command, "--json")).out
        assert json.dumps(second["build"], separators=(",", ":")) in described, command


async def test_an_interrupted_refresh_is_completed(person: RepositoryOwner) -> None:
    """A grant that the runner never got is sent again, and only then the old one is revoked."""
    desk = person.desk
    first = await person.publish(FIRST)
    assert (await desk.run(*person.granting())).status == 0
    second = await person.publish(SECOND)
    (old,) = await person.grants()
    await person.kept_grant(second)  # as after a refresh that did not reach the runner
    assert not await person.gets_the_secret(second["sha256"])
    for revoked in ([old["cid"]], []):
        refreshed = await desk.run(*person.refreshing("--json"))
        assert refreshed.status == 0, refreshed
        found = json.loads(refreshed.out)
        assert [one["revoked"] for one in found if "revoked" in one] == revoked
        assert "granted" not in found[0], "the grant of the first attempt is used"
    assert await person.gets_the_secret(second["sha256"])
    assert not await person.gets_the_secret(first["sha256"])
    assert len(await person.grants()) == 1


async def test_a_grant_is_renewed(person: RepositoryOwner) -> None:
    """A grant with less than half of its lifetime left is renewed for the same lifetime."""
    version = await person.publish(FIRST)
    await person.kept_grant(version, ttl_s=30 * DAY, age_s=20 * DAY)
    for renewed in (True, False):
        ran = await person.desk.run(*person.refreshing("--json"))
        assert ran.status == 0, ran
        found = json.loads(ran.out)
        assert [one["change"] for one in found] == ["unchanged"] * (1 if renewed else 2)
        assert ["granted" in one for one in found][:1] == [renewed]
    *_, new = sorted(await person.grants(), key=lambda one: str(one["expiresAt"]))
    left_s = parse_rfc3339(new["expiresAt"]) - SystemClock.now()
    assert 29 * DAY < left_s <= 30 * DAY
    assert await person.gets_the_secret(version["sha256"])


async def test_a_repository_with_the_name_of_another(person: RepositoryOwner) -> None:
    """PV11: a repository that took over a name gets nothing until the old grants are revoked."""
    desk = person.desk
    await person.publish(FIRST)
    other = "github.com/alice/other"
    await person.publish(FIRST, "other", repository=other, repository_id="3003")
    assert (await desk.run(*person.granting())).status == 0
    grant = ("--repository", other, "--program", "other")
    ran = await desk.run(*person.granting("--repository", other, project="other"))
    assert ran.status == 0, (ran, grant)
    one_name = await desk.run(*person.refreshing())
    assert one_name.status == 2 and f"{other}, {REPOSITORY}" in one_name.err, one_name

    taken = await person.publish(SECOND, repository_id="2002")
    await person.publish(SECOND, "other", repository=other, repository_id="3003")
    before = {one["cid"] for one in await person.grants()}
    refreshed = await desk.run(*person.refreshing("--all", "--json"))
    assert refreshed.status == 1 and "its number on GitHub is 2002, and was 1001" in refreshed.err
    changes = {one["repository"]: one["change"] for one in json.loads(refreshed.out)}
    assert changes[other] == f"{FIRST} → {SECOND}"
    assert changes[REPOSITORY].startswith("failed: ")
    assert len({one["cid"] for one in await person.grants()} & before) == 1
    refused = await desk.run(*person.granting())
    assert refused.status == INVALID and "another one took its name" in refused.next, refused
    assert not await person.gets_the_secret(taken["sha256"])

    assert (await desk.run("runner", "revoke", person.stage.url, "--yes")).status == 0
    assert (await desk.run(*person.granting())).status == 0
    assert await person.gets_the_secret(taken["sha256"])


async def test_a_namesake_with_other_capitals(person: RepositoryOwner) -> None:
    """PV11: GitHub ignores capitals in names, so these are names of one repository."""
    desk, capitals = person.desk, "github.com/Alice/Project"
    await person.publish(FIRST)
    assert (await desk.run(*person.granting())).status == 0
    await person.publish(SECOND, repository=capitals, repository_id="2002")
    refused = await desk.run(*person.granting("--repository", capitals))
    assert refused.status == INVALID and "another one took its name" in refused.next, refused
    await person.publish(SECOND, repository=capitals)
    assert (await desk.run(*person.granting("--repository", capitals))).status == 0


@pytest.mark.parametrize("by", ["revocation", "refresh"])
async def test_a_grant_that_is_revoked_during_a_refresh(person: RepositoryOwner, by: str) -> None:
    """PV16: a grant that is revoked during a refresh is not replaced."""
    desk, pipe = person.desk, person.folder / "root.pipe"
    os.mkfifo(pipe)
    versions = [await person.publish(FIRST)]
    assert (await desk.run(*person.granting())).status == 0
    (old,) = await person.grants()
    versions.append(await person.publish(SECOND))
    # The command waits for its trusted root. It has read the grant and the active version.
    command = asyncio.create_task(desk.run(*person.refreshing("--trusted-root", str(pipe))))
    writing = await asyncio.to_thread(pipe.open, "wb")
    with writing:
        if by == "revocation":
            async with person.desk_client() as client:
                wallet = read_wallet(desk.home / "wallet.key")
                await client.delegations.revoke_by_wallet(old["cid"], wallet)
        else:
            versions.append(await person.publish("c3" * 20))
            assert (await desk.run(*person.refreshing())).status == 0
        writing.write(person.authority.trusted_root)
    assert (await command).status == 0
    got = [await person.gets_the_secret(one["sha256"]) for one in versions]
    assert got == [False, False, *([True] if by == "refresh" else [])]


async def test_a_revocation_that_the_node_has_forgotten(person: RepositoryOwner) -> None:
    """PV11: a refresh uses newer grants after the node has deleted a revoked one."""
    desk, services = person.desk, person.stage.node.services
    await person.publish(FIRST)
    assert (await desk.run(*person.granting("--expires", "1h"))).status == 0
    assert (await desk.run("runner", "revoke", person.stage.url, "--yes")).status == 0
    await person.publish(SECOND, repository_id="2002")
    assert (await desk.run(*person.granting())).status == 0
    later = FixedClock(SystemClock.now() + KEPT_AFTER_EXPIRY_S + 2 * 3600)
    assert await sweep_delegations(replace(services, clock=later)) > 0
    await person.publish(FIRST, repository_id="2002")
    refreshed = await desk.run(*person.refreshing())
    assert refreshed.status == 0, refreshed
    assert f"{SECOND} → {FIRST}" in refreshed.out
    await person.publish(SECOND)
    assert (await desk.run(*person.granting())).status == INVALID


async def test_a_renamed_repository(person: RepositoryOwner) -> None:
    """PV11: the same number under another name is explained, and refused."""
    await person.publish(FIRST)
    assert (await person.desk.run(*person.granting())).status == 0
    renamed = "github.com/bob/project"
    await person.publish(SECOND, repository=renamed)
    ran = await person.desk.run(*person.refreshing())
    assert ran.status == 1 and f"is now named {renamed}" in ran.err, ran
    assert f"--repository {renamed}" in ran.next
    assert (await person.desk.run(*person.granting("--repository", renamed))).status == 0


OTHER_BYTES = hashlib.sha256(b"other bytes").hexdigest()
OTHER = "github.com/eve/project"
OTHER_WORKFLOW = f"{OTHER}/.github/workflows/x.yml"
REUSABLE = {"workflow": OTHER_WORKFLOW, "config": f"{WORKFLOW}@{REF}"}


@pytest.mark.parametrize(
    ("claim", "more"),
    [
        ("about other bytes", {"sha256": OTHER_BYTES}),
        ("another issuer", {"issuer": "https://issuer.example"}),
        ("another environment", {"environment": "self-hosted"}),
        ("pull_request_target", {"trigger": "pull_request_target"}),
        ("another repository or ref", {"workflow_ref": "refs/heads/evil"}),
        ("another repository", {"config": f"{OTHER}/.github/workflows/release.yml@{REF}"}),
        (
            "cannot be verified",
            {"cut": ("verificationMaterial", "tlogEntries", 0, "inclusionProof")},
        ),
        ("cannot be verified", {"cut": ("dsseEnvelope", "signatures", 0, "sig")}),
        ("longer than", {"padding": 256 * 1024}),
        ("cannot be verified", {"hand_made": True}),
    ],
)
async def test_bad_bundles(person: RepositoryOwner, claim: str, more: dict[str, Any]) -> None:
    """PV1 to PV10: a version whose bundle is invalid is not published and gets no secret."""
    program, bundle, sha256 = person.built(FIRST, **more)
    publish = ("project", "publish", "digest", program)
    ran = await person.desk.run(*publish, "--provenance", bundle, *person.root)
    assert ran.status == INVALID and claim in ran.err, ran
    assert (await person.desk.run("project", "show", "digest")).status != 0
    # A developer can store any bundle without this command.
    assert (await person.desk.run(*publish)).status == 0
    async with person.desk_client() as client:
        key = f"projects/digest/provenance/{sha256}"
        await client.kv("public").put(key, Path(bundle).read_bytes())
    for command in (person.granting(), ("project", "provenance", "digest", *person.root)):
        ran = await person.desk.run(*command)
        assert ran.status == INVALID and claim in ran.err, ran
    assert await person.grants() == []


@pytest.mark.parametrize(
    ("said", "more", "options"),
    [
        ("another repository", {"repository": OTHER}, ()),
        ("another ref", {"ref": "refs/heads/evil"}, ()),
        ("a workflow of another repository", REUSABLE, ()),
        ("another workflow", {}, ("--workflow", OTHER_WORKFLOW)),
    ],
)
async def test_builds_that_are_not_wanted(
    person: RepositoryOwner, said: str, more: dict[str, Any], options: tuple[str, ...]
) -> None:
    """PV11: another repository, ref or workflow than the owner names gets nothing."""
    await person.publish(FIRST, **more)
    ran = await person.desk.run(*person.granting(*options))
    assert ran.status == INVALID and said in ran.err, ran
    assert await person.grants() == []


async def test_a_workflow_of_another_repository_is_named(person: RepositoryOwner) -> None:
    """PV11: a reusable workflow is granted to if the owner names it."""
    await person.publish(FIRST, **REUSABLE)
    assert (await person.desk.run(*person.granting("--workflow", OTHER_WORKFLOW))).status == 0
    assert (await person.desk.run(*person.refreshing())).status == 0


async def test_where_a_version_was_built(person: RepositoryOwner) -> None:
    """PV12: anybody can read and verify the bundle of a version. Without a bundle nothing is
    granted."""
    desk = person.desk
    first = await person.publish(FIRST)
    assert FIRST in (await desk.run("project", "show", "digest")).out
    saved = person.folder / "saved.json"
    project = f"{person.owner}/digest"
    shown = await desk.run("project", "provenance", project, "--output", str(saved), *person.root)
    assert shown.status == 0 and WORKFLOW in shown.out, shown
    assert saved.read_bytes() == (person.folder / "bundle.json").read_bytes()

    program, _, _ = person.built(SECOND)
    assert (await desk.run("project", "publish", "digest", program)).status == 0
    assert "its developer states nothing" in (await desk.run("project", "show", project)).out
    command = ("project", "provenance", project, *person.root)
    for refused in (await desk.run(*command), await desk.run(*person.granting())):
        assert refused.status == EXIT_STATUS["not-there"], refused
        assert "project publish digest FILE --provenance BUNDLE" in refused.next
    assert (await desk.run(*command, "--version", first["sha256"])).status == 0


async def test_options_of_builds(person: RepositoryOwner) -> None:
    """An incomplete set of build options is refused, and the error names the missing one."""
    desk, url = person.desk, person.stage.url
    version = await person.publish(FIRST)
    for said, words in (
        ("a grant for a build requires", ("--secret", "A", "--program", "digest", "--ref", REF)),
        ("a grant for a build requires", (*person.granting()[3:], "--program", "other")),
        ("a grant for a build requires", (*person.granting()[3:], "--follow")),
        ("--all requires --refresh", (*person.granting()[3:], "--all")),
        ("leave out other terms", ("--refresh", "--secret", "API_KEY")),
        ("leave out other terms", ("--refresh", "--host", "api.test")),
        ("leave out other terms", ("--refresh", "--anybody")),
        ("name what to grant", ("--repository", REPOSITORY)),
        ("of no repository", ("--refresh", "--all")),
    ):
        ran = await desk.run("runner", "grant", url, *words)
        assert ran.status == 2 and said in ran.err.replace("builds of no", "of no"), (said, ran)
    without = [word for word in person.granting() if word not in ("--ref", REF)]
    ran = await desk.run(*without)
    assert ran.status == 2 and ran.next.endswith(f"--ref {REF}"), ran
    hashed = await desk.run(*person.granting(project=version["sha256"]))
    assert hashed.status == EXIT_STATUS["not-there"], hashed


async def test_trusted_roots(person: RepositoryOwner) -> None:
    """A trusted root file may be old or have several lines, and another root refuses the bundle."""
    desk, root = person.desk, person.folder / "root.json"
    await person.publish(FIRST)
    command = ("project", "provenance", "digest", *person.root)
    then = root.stat().st_mtime - 12 * DAY
    os.utime(root, (then, then))
    assert f"trusted root {root}, 12 days old" in (await desk.run(*command)).err
    own, other = person.authority.trusted_root, SigstoreAuthority().trusted_root
    for status, data in (
        (0, own + b"\n" + other + b"\n"),
        (0, json.dumps(json.loads(own), indent=2).encode()),
        (INVALID, other + b"\n" + own),
        (INVALID, b"{}"),
        (INVALID, b"text"),
        (INVALID, own + b"\n" + bytes(1024 * 1024)),
    ):
        root.write_bytes(data)
        ran = await desk.run(*command)
        assert ran.status == status, (data[:20], ran)


async def test_a_grant_to_later_builds(person: RepositoryOwner) -> None:
    """PV17: a command grants once; later builds get the secret, and an older one does not."""
    desk, programs = person.desk, person.stage.runner.programs
    await person.publish(FIRST, run=20)
    without_root = [one for one in person.granting("--later-builds") if one not in person.root]
    refused = await desk.run(*without_root)
    assert refused.status == 2 and "requires --trusted-root" in refused.err, refused
    for words in (
        person.granting("--later-builds", "--for-job"),
        person.refreshing("--later-builds"),
    ):
        refused = await desk.run(*words)
        assert refused.status == 2 and "leave out" in refused.err, refused
    granted = await desk.run(*person.granting("--later-builds"))
    assert granted.status == 0, granted
    assert "from run 20 on; the runner verifies each build" in granted.out
    assert await person.gets_the_secret(None)
    (listed,) = await person.grants()
    (rule,) = listed["run"]["programs"]
    assert rule["builds"]["leastRun"] == 20
    assert rule["builds"]["signer"] == f"{WORKFLOW}@{REF}"
    for commit, run, gets in ((SECOND, 21, True), ("c3" * 20, 20, False), ("d4" * 20, 22, True)):
        await person.publish(commit, run=run)
        programs._found.clear()  # as after 5 s (RN53)
        assert await person.gets_the_secret(None) is gets, commit
    assert len(await person.grants()) == 1


async def test_later_builds_by_a_root_that_the_runner_lacks(person: RepositoryOwner) -> None:
    """PV18: the runner refuses a grant by another trusted root, and says which it has."""
    other = SigstoreAuthority()
    _, bundle, sha256 = person.built(FIRST)
    Path(bundle).write_bytes(other.bundle(sha256, commit=FIRST))
    (person.folder / "root.json").write_bytes(other.trusted_root)
    program = str(person.folder / "program.wasm")
    publish = ("project", "publish", "digest", program, "--provenance", bundle, *person.root)
    assert (await person.desk.run(*publish)).status == 0
    ran = await person.desk.run(*person.granting("--later-builds"))
    assert ran.status != 0 and "does not have" in ran.err, ran


async def test_the_page(person: RepositoryOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's commands have the results that the page states."""
    page = (CHECKOUT / "docs" / "how-to" / "secrets-for-a-repository.md").read_text("utf-8")
    blocks = [block for block in blocks_of(page) if "test_repository_grants" in block.why]
    monkeypatch.chdir(person.folder)
    person.built(FIRST)
    printed = []
    token = ""
    for at, block in enumerate(blocks):
        if at == 3:
            await person.publish(SECOND)
        for line in block.text.splitlines():
            words, _, file = line.partition(" > ")
            words = words.replace("http://127.0.0.1:8090", person.stage.url)
            command = words.removeprefix("sealspace ").split()
            if command[1] in ("grant", "publish"):
                command += ["--trusted-root", "root.json"]
            ran = await (job(person, token, *command) if at == 7 else person.desk.run(*command))
            assert ran.status == 0, (line, ran)
            if "--for-job" in command:
                token = ran.out.split()[-1]
            if file:
                Path(file).write_text(ran.out)
            printed.append(ran.out + ran.err)
    assert f"API_KEY={SECRET}" in printed[4]
    assert f"{FIRST} → {SECOND}" in printed[5]
    assert "unchanged" in printed[6]
    assert f"none → {SECOND}" in printed[9]
    assert "trusted root root.json, 0 days old" in printed[10] and SECOND in printed[10]


async def test_a_grant_to_another_runner_is_none_to_this_one(person: RepositoryOwner) -> None:
    """A grant with the same terms to another runner is not replaced."""
    await person.publish(FIRST)
    assert (await person.desk.run(*person.granting())).status == 0
    second = await person.publish(SECOND)
    await person.kept_grant(second, did=OTHER_RUNNER, ttl_s=30 * DAY)
    assert (await person.desk.run(*person.refreshing())).status == 0
    assert await person.gets_the_secret(second["sha256"])
    assert {one["did"] for one in await person.grants()} == {OTHER_RUNNER, person.stage.runner.did}


async def test_the_owner_of_a_phrase(person: RepositoryOwner) -> None:
    """A grant by a key states no time of issue, so it is renewed for the lifetime in
    `--expires`."""
    desk = person.desk
    desk.home = person.folder / "phrase"
    trusted = desk.folder
    trust = ("--trust-root", str(trusted / "root.pem"), "--collateral", str(trusted / "collateral"))
    login = await desk.run("login", desk.node, "--phrase", *trust, given=f"{PHRASE}\n")
    assert login.status == 0, login
    assert (await desk.run("secret", "put", "API_KEY", given=SECRET)).status == 0
    await person.publish(FIRST)
    assert (await desk.run(*person.granting("--expires", "1d"))).status == 0
    for expires, number in (("1d", 1), ("7d", 2), ("7d", 2)):
        assert (await desk.run(*person.refreshing("--expires", expires))).status == 0
        assert len(await person.grants()) == number
    second = await person.publish(SECOND)
    assert (await desk.run(*person.refreshing("--all"))).status == 0
    ((*_, rule),) = [one["run"]["programs"] for one in await person.grants()]
    assert rule["wasmSha256"] == second["sha256"]


async def test_the_trusted_root_is_downloaded_once(
    person: RepositoryOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that refreshes several grants downloads Sigstore's trusted root once."""
    downloads = []

    def production(**_: object) -> Any:
        downloads.append(1)
        return SimpleNamespace(trusted_root=parse_trusted_root(person.authority.trusted_root))

    other = "github.com/alice/other"
    await person.publish(FIRST)
    await person.publish(FIRST, "other", repository=other, repository_id="3003")
    assert (await person.desk.run(*person.granting())).status == 0
    ran = await person.desk.run(*person.granting("--repository", other, project="other"))
    assert ran.status == 0, ran
    monkeypatch.setattr(ClientTrustConfig, "production", production)
    words = [one for one in person.refreshing("--all") if one not in person.root]
    for times in (1, 2):
        assert (await person.desk.run(*words)).status == 0
        assert len(downloads) == times


async def token_of(person: RepositoryOwner) -> str:
    """Make a token for a job."""
    made = await person.desk.run(*person.granting("--for-job", "--json"))
    assert made.status == 0, made
    return str(json.loads(made.out)["token"])


async def job(person: RepositoryOwner, token: str, *words: str, home: Path | None = None) -> Ran:
    """Run a command as a job does, on a machine that has nothing but a token."""
    trusted = person.desk.folder
    trust = ("--trust-root", str(trusted / "root.pem"), "--collateral", str(trusted / "collateral"))
    with person.desk.monkeypatch.context() as patch:
        patch.setenv("SEALSPACE_NODE", person.desk.node)
        patch.setenv("SEALSPACE_TOKEN", token)
        machine = replace(person.desk, home=home or person.folder / "job")
        machine.home.mkdir(exist_ok=True)
        words = words or person.refreshing("--json")
        return await machine.run(*words, *(trust if "grant" in words else ()))


async def test_a_job_refreshes(person: RepositoryOwner) -> None:
    """PV15, RN245 to RN247: a job without stored state grants each build with the owner's token."""
    desk, url = person.desk, person.stage.url
    first = await person.publish(FIRST)
    token = await token_of(person)
    assert not await person.gets_the_secret(first["sha256"]), "the job grants, not its token"
    ran = await job(person, token)
    assert ran.status == 0 and json.loads(ran.out)[0]["change"] == f"none → {FIRST}", ran
    assert await person.gets_the_secret(first["sha256"])
    second = await person.publish(SECOND)
    ran = await job(person, token, *person.refreshing("--json", "--all"))
    assert ran.status == 0 and json.loads(ran.out)[0]["change"] == f"{FIRST} → {SECOND}", ran
    assert await person.gets_the_secret(second["sha256"])
    assert not await person.gets_the_secret(first["sha256"])
    ran = await job(person, token)
    assert ran.status == 0 and json.loads(ran.out)[0]["change"] == f"{SECOND} → {SECOND}", ran
    assert await person.gets_the_secret(second["sha256"])
    taken = await person.publish("c3" * 20, repository_id="2002")
    ran = await job(person, token)
    assert ran.status == 1 and "its number on GitHub is 2002, and was 1001" in ran.err, ran
    assert await person.gets_the_secret(second["sha256"])
    assert not await person.gets_the_secret(taken["sha256"])
    (listed,) = json.loads((await desk.run("runner", "list", "--json")).out)
    assert listed["run"]["refreshFor"] == person.stage.runner.did
    assert (await desk.run("runner", "revoke", url, "--yes")).status == 0
    assert not await person.gets_the_secret(second["sha256"])
    assert (await job(person, token)).status == 1
    assert not await person.gets_the_secret(second["sha256"])


async def test_an_interrupted_job_is_completed(person: RepositoryOwner) -> None:
    """RN247: the run after an interrupted one revokes the former grant."""
    first = await person.publish(FIRST)
    token = await token_of(person)
    assert (await job(person, token)).status == 0
    second = await person.publish(SECOND)
    async with Client(person.desk.node, session=read_token(token)) as client:
        before = person.stage.runner.backend.grants
        mine = [one.grant for one in before if one.grant.delegator == client.session.did]
        portable = granted_by_job(client.session, second["sha256"], SECOND)
        answer = json.loads((await deliver(person.stage.url, portable)).body)  # and no revocation
        assert answer == {one.cid: FIRST for one in mine}
        assert await person.gets_the_secret(second["sha256"])
        assert not await person.gets_the_secret(first["sha256"])
        assert [(await client.delegations.status(one.cid)).word for one in mine] == ["active"]
        assert (await job(person, token)).status == 0
        assert [(await client.delegations.status(one.cid)).word for one in mine] == ["revoked"]
        assert (await client.delegations.status(portable.cid)).word == "revoked"
    assert await person.gets_the_secret(second["sha256"])


async def test_the_token_of_a_job_opens_nothing(person: RepositoryOwner) -> None:
    """RN245: with the token alone, the node releases no key, and the value stays encrypted."""
    await person.publish(FIRST)
    token = await token_of(person)
    async with Client(person.desk.node, session=read_token(token)) as client:
        secrets = client.secrets()
        with pytest.raises(DecryptDenied) as denied:
            await secrets.get("API_KEY")
        assert "not_attested" in str(denied.value.refusal)
        path = parse_secret_label("API_KEY").path
        stored = await client.kv(f"tinycloud:{person.owner[4:]}:secrets").get(path)
        assert SECRET.encode() not in stored.body
        with pytest.raises(NotGranted):
            await secrets.put("API_KEY", "mine")
    for words in (
        ("secret", "get", "API_KEY"),
        ("run", "--", "true"),
        ("secret", "list"),
        person.granting(project=f"{person.owner}/digest"),
    ):
        # Also on the owner's machine, the rights of the login are not taken for those of the job.
        ran = await job(person, token, *words, home=person.desk.home)
        assert ran.status == EXIT_STATUS["not-granted"] and SECRET not in ran.out, (words, ran)
        assert ("a machine token cannot do this" in ran.err) is (words[0] != "runner"), ran


async def test_a_runner_s_did_ends_the_token_of_a_job(person: RepositoryOwner) -> None:
    """RN245: revoking the grants to a runner also revokes the job's token."""
    version = await person.publish(FIRST)
    token, did = await token_of(person), person.stage.runner.did
    assert (await job(person, token)).status == 0
    assert (await person.desk.run("runner", "revoke", did, "--yes")).status == 0
    assert (await job(person, token)).status == 1
    assert not await person.gets_the_secret(version["sha256"])


async def test_a_job_for_another_runner_or_repository(person: RepositoryOwner) -> None:
    """RN246: a job refreshes only the repository that its token names."""
    await person.publish(FIRST)
    ran = await person.desk.run(
        *("runner", "grant", person.stage.url, "--for-job", "--yes"),
        *("--secret", "API_KEY", "--program", "digest"),
    )
    assert ran.status == 2 and "--for-job requires --repository" in ran.err, ran
    token = await token_of(person)
    words = person.refreshing("--repository", "github.com/alice/other")
    ran = await job(person, token, *words)
    assert ran.status == 2 and "no repository" in ran.err, ran
    for option in ("--for-job", "--allow-unbound"):
        ran = await person.desk.run(*person.refreshing(option))
        assert ran.status == 2 and "--refresh changes the build alone" in ran.err, ran
