"""`sealspace ci`: an owner's trusts in issuers, and the commands of a CI job without a secret."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from oidc_issuer import Issuer, github_claims, gitlab_claims, kubernetes_claims
from owner_desk import OwnerDesk, Ran, owner_desk

from sealspace.wire.token_line import read_token, token_of

GITHUB = "https://token.actions.githubusercontent.com"


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """A logged-in owner with two secrets."""
    for variable in ("SEALSPACE_TOKEN", "SEALSPACE_TRUST", "SEALSPACE_ID_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        async with desk.client() as client:
            await client.secrets().put_many({"API_KEY": "alpha-4711", "OTHER_KEY": "beta"})
        yield desk


async def trust(desk: OwnerDesk, issuer: Issuer, *arguments: str) -> str:
    """Have the owner trust an issuer, whose keys are in a file; return the trust's id."""
    keys = desk.home / "keys.json"
    keys.write_text(issuer.jwks)
    made = await desk.run("ci", "trust", *arguments, "--secret", "API_KEY", "--jwks", str(keys))
    assert made.status == 0, made
    return made.out.strip()


def of_github(*more: str) -> tuple[str, ...]:
    """Return the options of a trust in a repository on GitHub."""
    return ("github", "--repository-id", "74", "--owner-id", "65", *more)


def node_did(desk: OwnerDesk) -> str:
    """Return the audience of ID tokens."""
    return desk.served.services.keyring.node_did


async def in_job(desk: OwnerDesk, *arguments: str, **variables: str) -> Ran:
    """Run a command in a job with these variables, in a folder without a login."""
    with desk.monkeypatch.context() as patch:
        # The command may set this variable for itself, as in a process of its own.
        patch.setenv("SEALSPACE_TOKEN", "")
        patch.delenv("SEALSPACE_TOKEN")
        for name, value in {"NODE": desk.node, **variables}.items():
            patch.setenv(f"SEALSPACE_{name}", value)
        return await desk.run(*arguments, home=desk.home / "none")


async def test_a_job_on_github_reads_a_secret(desk: OwnerDesk) -> None:
    """A job with the claims of the trust runs a command with the secret, and nothing is stored."""
    issuer = Issuer(GITHUB)
    cid = await trust(desk, issuer, *of_github("--branch", "main"))
    token = issuer.token(github_claims(), audience=node_did(desk))
    ran = await in_job(desk, "secret", "get", "API_KEY", TRUST=cid, ID_TOKEN=token)
    assert (ran.status, ran.out) == (0, "alpha-4711"), ran
    assert not (desk.home / "none").exists()


@pytest.mark.parametrize(
    ("system", "options", "claims"),
    [
        (
            "gitlab",
            ["--repository-id", "20", "--owner-id", "72", "--branch", "main"],
            gitlab_claims(),
        ),
        (
            "kubernetes",
            ["--issuer", "https://k8s.test", "--namespace", "shop", "--service-account", "deploy"],
            kubernetes_claims(),
        ),
        (
            "other",
            ["--issuer", "https://ci.test", *("--claim", "level=3", "--claim", "level=4")],
            {"sub": "job 1", "level": "4"},
        ),
    ],
)
async def test_jobs_of_other_systems(
    desk: OwnerDesk, system: str, options: list[str], claims: dict[str, object]
) -> None:
    """`ci login` prints the line of a machine token, with which later commands read the secret."""
    issuer = Issuer(options[1] if options[0] == "--issuer" else "https://gitlab.com")
    cid = await trust(desk, issuer, system, *options)
    # Kubernetes states its audiences as a list.
    token = issuer.token(claims, audience=[node_did(desk)])
    made = await in_job(desk, "ci", "login", TRUST=cid, ID_TOKEN=token)
    found = token_of(read_token(made.out))
    assert found is not None and found.name == system and found.labels == "API_KEY"
    read = await in_job(desk, "secret", "get", "API_KEY", TOKEN=made.out)
    assert (read.status, read.out) == (0, "alpha-4711")


async def test_list_and_revoke(desk: OwnerDesk) -> None:
    """`ci list` shows trusts with claims and last use; a trust that is revoked ends its tokens."""
    issuer = Issuer(GITHUB)
    cid = await trust(desk, issuer, *of_github("--branch", "main"))
    token = issuer.token(github_claims(), audience=node_did(desk))
    made = await in_job(desk, "ci", "login", TRUST=cid, ID_TOKEN=token)
    (listed,) = json.loads((await desk.run("ci", "list", "--json")).out)
    assert listed["id"] == cid and listed["issuer"] == GITHUB and listed["lastUsedAt"] is None
    assert listed["claims"]["ref"] == ["refs/heads/main"]
    assert json.loads((await desk.run("token", "list", "--json")).out) == []
    assert (await in_job(desk, "secret", "get", "API_KEY", TOKEN=made.out)).status == 0
    (used,) = json.loads((await desk.run("ci", "list", "--json")).out)
    assert used["lastUsedAt"]
    assert (await desk.run("ci", "revoke", "github")).status == 0
    refused = await in_job(desk, "secret", "get", "API_KEY", TOKEN=made.out)
    assert refused.status != 0 and "revoked" in refused.err
    assert json.loads((await desk.run("ci", "list", "--json")).out) == []


@pytest.mark.parametrize(
    ("system", "issuer"), [("github", "https://github.test"), ("gitlab", "https://gitlab.com")]
)
async def test_OX8_numbers_of_another_system(desk: OwnerDesk, system: str, issuer: str) -> None:
    """GitHub's number of a repository would name a stranger's at another issuer; it is not used."""
    options = ("--issuer", issuer, "--repository", "acme/shop", "--branch", "main")
    made = await desk.run("ci", "trust", system, *options, "--secret", "API_KEY")
    assert made.status != 0 and "missing, or GitHub does not answer: 'repository_id'" in made.err
