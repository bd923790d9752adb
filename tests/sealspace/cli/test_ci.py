"""Tests of `sealspace ci`: an owner's trusts in issuers, and jobs without a stored secret."""

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from https_service import Service, https_service
from oidc_issuer import Issuer, github_claims, gitlab_claims, kubernetes_claims
from owner_desk import OwnerDesk, Ran, owner_desk

from sealspace.wire import http_connections
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
    """`ci list` shows trusts with claims and last use. Revoking a trust ends its tokens."""
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
    assert (await desk.run("token", "list")).err.startswith("no machine tokens; next: ")
    ended = await desk.run("ci", "revoke", "github")
    assert (ended.status, ended.err) == (
        0,
        "revoked github: jobs of this trust can no longer read API_KEY\n",
    )
    again = await desk.run("ci", "revoke", "github")
    assert (again.status, again.happened) == (21, "no trusts in force are named github")
    assert (await desk.run("ci", "list")).err == "no trusts; next: sealspace ci trust --help\n"
    # A job cannot repair that, so the next step is the owner's.
    for variables in ({"TOKEN": made.out}, {"TRUST": cid, "ID_TOKEN": token}):
        refused = await in_job(desk, "secret", "get", "API_KEY", **variables)
        assert refused.status != 0 and "sealspace ci trust" in refused.err
        assert "sealspace ci login" not in refused.err
        assert ("was revoked" in refused.err) is ("TOKEN" in variables)
    assert json.loads((await desk.run("ci", "list", "--json")).out) == []


async def test_the_claims_are_named(desk: OwnerDesk) -> None:
    """The owner reads a trust's claims in the form of the option --claim."""
    (desk.home / "keys.json").write_text(Issuer(GITHUB).jwks)
    options = of_github("--branch", "main", "--jwks", str(desk.home / "keys.json"))
    made = await desk.run("ci", "trust", *options, "--secret", "API_KEY", "--claim", "actor=ann")
    said = "repository_id=74 repository_owner_id=65 ref=refs/heads/main actor=ann"
    assert f"jobs with {said} can read API_KEY" in made.err, made


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (("github", "--repository-id", "74", "--branch", "main"), "--owner-id"),
        (("gitlab", "--repository", "acme/shop", "--branch", "main"), "--repository-id"),
        (
            ("github", "--issuer", "https://github.test", "--repository", "a/b", "--tag", "1"),
            "--repository-id",
        ),
        (("kubernetes", "--namespace", "shop", "--service-account", "deploy"), "--issuer"),
    ],
)
async def test_OX8_a_missing_option_is_named(
    desk: OwnerDesk, options: tuple[str, ...], missing: str
) -> None:
    """Nothing is signed if an option of the CI system is missing, and the error names the
    option."""
    made = await desk.run("ci", "trust", *options, "--secret", "API_KEY")
    assert made.status != 0 and f"{options[0]} needs the option {missing}\n" in made.err


@pytest.mark.parametrize("option", ["--repository-id", "--owner-id"])
@pytest.mark.parametrize("system", ["github", "gitlab"])
async def test_OX8_what_is_no_number(desk: OwnerDesk, system: str, option: str) -> None:
    """A text in place of a number of the repository or its owner is refused: no job could match."""
    numbers = {"--repository-id": "74", "--owner-id": "65"} | {option: "acme"}
    options = [part for pair in numbers.items() for part in pair]
    made = await desk.run("ci", "trust", system, *options, "--tag", "v1", "--secret", "API_KEY")
    assert made.status == 2, made
    assert made.happened == f"invalid value for '{option}': acme is not a number"


@pytest.fixture
async def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """A service on loopback that the name of GitHub's API resolves to."""
    async with https_service(tmp_path, "api.github.com") as service:
        resolve = socket.getaddrinfo

        def resolved(host: str, *arguments: Any, **named: Any) -> Any:
            if host != "api.github.com":
                return resolve(host, *arguments, **named)
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", service.port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolved)
        monkeypatch.setenv("SSL_CERT_FILE", str(service.ca))
        http_connections.tls_context.cache_clear()
        yield service
        http_connections.tls_context.cache_clear()


LOOKED_UP = ("ci", "trust", "github", "--repository", "acme/shop", "--branch", "main")


async def test_OX8_numbers_are_looked_up_at_github(desk: OwnerDesk, github: Service) -> None:
    """The trust has the numbers of the repository and its owner; no credential is sent."""
    answer = {"id": 74, "name": "shop", "owner": {"login": "acme", "id": 65}}
    github.documents["/repos/acme/shop"] = json.dumps(answer).encode()
    made = await desk.run(*LOOKED_UP, "--secret", "API_KEY")
    assert made.status == 0 and "repository_id=74 repository_owner_id=65" in made.err, made
    (request,) = github.seen
    assert request.method == "GET"
    assert request.path_qs == "/repos/acme/shop"
    assert {"Authorization", "Cookie"}.isdisjoint(request.headers)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"[]", "not a JSON object"),
        (b'{"id":74,"owner":null}', "no owner"),
        (b"{" + b" " * 16 * 1024 * 1024, "is longer than"),
        (None, "not a JSON object"),
    ],
    ids=["a list", "no owner", "too long", "nothing"],
)
async def test_answers_of_github_are_checked(
    desk: OwnerDesk, github: Service, answer: bytes | None, said: str
) -> None:
    """If GitHub's answer has another form or size, nothing is signed and the error has a next
    step."""
    if answer is not None:
        github.documents["/repos/acme/shop"] = answer
    made = await desk.run(*LOOKED_UP, "--secret", "API_KEY")
    assert made.status != 0 and "cannot look up the repository at GitHub" in made.err
    assert said in made.err and "use --repository-id and --owner-id" in made.err, made.err


async def test_a_repository_that_moved_is_not_followed(desk: OwnerDesk, github: Service) -> None:
    """A redirect, with which GitHub answers for a former name, gives no numbers."""
    moved = "/repos/../redirect?to=https://api.github.com/repos/acme/new"
    made = await desk.run(
        *("ci", "trust", "github", "--repository", moved.removeprefix("/repos/")),
        *("--branch", "main", "--secret", "API_KEY"),
    )
    assert made.status != 0 and "cannot look up the repository at GitHub" in made.err, made
