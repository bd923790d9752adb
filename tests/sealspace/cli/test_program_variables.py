"""Names of secrets that `sealspace run` refuses, because such variables direct programs (CL6)."""

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from owner_desk import OwnerDesk
from owner_machine import LIMIT_S, Owner
from tests_support import OUR_IMPORTS

from sealspace.cli.use.program_variables import (
    directs_programs,
    ends_like_a_secret,
    is_passed_by_default,
)
from sealspace.cli.use.variable_families import FAMILIES

ATTACKS = (
    "LUA_INIT_5_4",
    "RSYNC_RSH",
    "TAR_OPTIONS",
    "PYTEST_PLUGINS",
    "ERL_AFLAGS",
    "BUN_OPTIONS",
    "PIP_INDEX_URL",
    "CFLAGS",
)
"""Names that were passed with `--only`, in project files and for tokens."""


@pytest.fixture
def owner(forking_owner: Owner) -> Owner:
    """The owner of most tests, whose commands run in forks."""
    return forking_owner


# --- the list -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *ATTACKS,
        *("PATH", "HOME", "TMPDIR", "LD_PRELOAD", "LD_LIBRARY_PATH", "GCONV_PATH", "HOSTALIASES"),
        *("BASH_ENV", "ENV", "IFS", "PS4", "PROMPT_COMMAND", "ZDOTDIR", "FPATH"),
        *("EDITOR", "VISUAL", "PAGER", "BROWSER", "LESSOPEN", "MANPAGER", "SUDO_ASKPASS"),
        *("GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_KEY_0", "SSH_ASKPASS", "GNUPGHOME"),
        *("PYTHONPATH", "PYTHONWARNINGS", "PYTEST_ADDOPTS", "UV_INDEX", "POETRY_HOME"),
        *("NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "NPM_CONFIG_SCRIPT_SHELL", "RUBYOPT", "PERL5OPT"),
        *("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "DOTNET_STARTUP_HOOKS", "CORECLR_PROFILER"),
        *("GOFLAGS", "GOROOT", "CARGO_BUILD_RUSTC_WRAPPER", "RUSTC", "RUSTFLAGS", "PHPRC"),
        *("R_PROFILE", "MAKEFLAGS", "GCC_EXEC_PREFIX", "COMPILER_PATH", "CC", "LD"),
        *("TF_CLI_ARGS", "TF_CLI_CONFIG_FILE", "KUBECONFIG", "DOCKER_HOST", "DOCKER_CONFIG"),
        *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"),
        *("HTTPS_PROXY", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "KRB5_CONFIG"),
        *("ANSIBLE_VAULT_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND", "BORG_PASSCOMMAND"),
        *("SOPS_AGE_KEY_CMD", "XDG_CONFIG_HOME", "SEALSPACE_NODE", "SEALSPACE_TOKEN"),
        *("SYSTEM_WGETRC", "NAPI_RS_NATIVE_LIBRARY_PATH", "GOPACKAGESDRIVER", "BAZELISK_BASE_URL"),
        *("UWSGI_EXEC_PRE_APP", "PASSWORD_STORE_EXTENSIONS_DIR", "PGHOST", "KUBERNETES_MASTER"),
        *("COSIGN_PKCS11_MODULE_PATH", "SOFTHSM2_CONF", "ACME_PKCS11_MODULE", "MY_HSM_LIBRARY"),
        *("ACME_PLUGINS_DIR", "ACME_JAVA_OPTS", "ACME_LIBRARY_PATH", "ACME_PASSWORD_COMMAND"),
        *("HDF5_PLUGIN_PATH", "NCCL_NET_PLUGIN", "DEVELOPER_DIR", "VAULT_ADDR", "MODULEPATH"),
    ],
)
def test_CL6_directing_names(name: str) -> None:
    """CL6: these variables control code, files or addresses of programs. None ends like a
    secret."""
    assert directs_programs(name)


@pytest.mark.parametrize(
    "name",
    [
        *("API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"),
        *("OPENAI_API_KEY", "DATABASE_URL", "GITHUB_TOKEN", "NPM_TOKEN", "PGPASSWORD"),
        *("TF_VAR_DB_PASSWORD", "GIT_TOKEN", "PYTHON_TOKEN", "DOCKER_PASSWORD", "RESTIC_PASSWORD"),
        *("AWS_REGION", "SSH_HOST", "DOCKER_USERNAME", "GOOGLE_CLIENT_ID", "TEMPORAL_ADDRESS"),
        *("COSIGN_PASSWORD", "PKCS11_PIN_TOKEN", "MODULE_NAME", "PLUGIN_ID", "CALIBRATION"),
        *("ENVIRONMENT", "PATHOLOGY", "HOMEPAGE", "STRIPE_ACCOUNT", "AZURE_TENANT_ID", "GHCR_USER"),
    ],
)
def test_CL6_names_that_direct_nothing(name: str) -> None:
    """CL6: names of ordinary secrets and settings are passed if their owner names them."""
    assert not directs_programs(name)


@pytest.mark.parametrize(
    "name", ["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CREDENTIALS", "GIT_SSL_KEY"]
)
def test_CL1_names_of_files_are_not_taken_from_others(name: str) -> None:
    """CL1: a variable with the name of a file or an address is not passed from another owner's
    secrets."""
    assert is_passed_by_default(name, chosen_by_others=False)
    assert not is_passed_by_default(name, chosen_by_others=True)
    assert is_passed_by_default("STRIPE_KEY", chosen_by_others=True)


def test_CL6_the_list_has_one_form() -> None:
    """CL6: each pattern in the list of names is unique and refuses at least one name."""
    everything = [pattern for family in FAMILIES for pattern in family.patterns]
    endings = [pattern.removeprefix("*") for pattern in everything if pattern.startswith("*")]
    patterns = [pattern for pattern in everything if not pattern.startswith("*")]
    for ending in endings:
        assert ending.startswith("_") and not ends_like_a_secret(f"A{ending}"), ending
        assert [other for other in endings if ending.endswith(other)] == [ending]
    for pattern in patterns:  # an ending that covers a name makes it superfluous
        assert "*" in pattern or not pattern.endswith(tuple(endings)), pattern
    prefixes = [pattern.removesuffix("*") for pattern in patterns if pattern.endswith("*")]
    for pattern in patterns:
        name = pattern.removesuffix("*")
        assert name.replace("_", "").isalnum() and name.isupper()
        assert not ends_like_a_secret(name)
        covering = [prefix for prefix in prefixes if name.startswith(prefix)]
        assert covering == [name] * pattern.endswith("*"), pattern
    assert len({*everything}) == len(everything)


# --- one's own secrets ----------------------------------------------------------------------------


async def _expect_refusal(owner: Owner, name: str, *options: str) -> None:
    """Run a command that would pass a variable, and check that the command refuses it."""
    ran = await owner.run("run", *options, "--", "touch", "started")
    happened, following = ran.stderr.decode().splitlines()[-2:]
    assert ran.returncode == 2, ran
    assert f"refusing to set {name}: this variable controls how programs run" in happened
    assert following.startswith("next: ") and f"--allow-override {name}" in following
    assert not (owner.here / "started").exists()


async def test_CL6_only_and_project_files(owner: Owner) -> None:
    """CL6: a secret whose name controls programs is refused unless `--allow-override` names it."""
    await owner.store_secrets(**dict.fromkeys(ATTACKS, "the value"), GIT_TOKEN="the value")
    script = 'echo "$GIT_TOKEN,$TAR_OPTIONS"'
    for name in ATTACKS[:2]:
        await _expect_refusal(owner, name, "--only", f"GIT_TOKEN,{name}")
    ran = await owner.run("run", "--only", ",".join(ATTACKS), "--", "touch", "started")
    refused = ",".join(sorted(ATTACKS))
    assert f"--allow-override {refused}" in ran.stderr.decode()
    ran = await owner.run("run", "--only", "GIT_TOKEN", "--", "sh", "-c", script)
    assert (ran.returncode, ran.stdout) == (0, b"***,\n")
    allowed = ("--only", "GIT_TOKEN,TAR_OPTIONS", "--allow-override", "TAR_OPTIONS")
    ran = await owner.run("run", *allowed, "--", "sh", "-c", script)
    assert (ran.returncode, ran.stdout) == (0, b"***,***\n")
    ran = await owner.run("run", "--allow-override", "TAR_OPTIONS", "--", "sh", "-c", script)
    assert (ran.returncode, ran.stdout) == (0, b"***,***\n")
    project = owner.here / ".sealspace.toml"
    project.write_text('secrets = ["GIT_TOKEN", "PIP_INDEX_URL"]')
    project.chmod(0o600)
    await _expect_refusal(owner, "PIP_INDEX_URL")
    project.write_text('[rename]\nLUA_INIT_5_4 = "GIT_TOKEN"')
    ran = await owner.run("run", "--allow-override", "LUA_INIT_5_4", "--", "touch", "started")
    assert ran.returncode == 2
    assert b"the variable LUA_INIT_5_4 controls how programs run" in ran.stderr
    assert not (owner.here / "started").exists()


# --- secrets that somebody else chose -------------------------------------------------------------


VALUES = {
    "API_KEY": "first of all",
    "DATABASE_URL": "second of all",
    "UNKNOWN_OPTS": "third of all",
    "TAR_OPTIONS": "fourth of all",
}
SHOWN = ("sh", "-c", 'echo "$API_KEY,$DATABASE_URL,$UNKNOWN_OPTS,$TAR_OPTIONS" >&2')


async def _alice(owner: Owner) -> tuple[str, Path]:
    """Return the DID of an owner with some secrets, and the home of another one, Bob."""
    await owner.store_secrets(**VALUES)
    alice = json.loads((await owner.desk.run("whoami", "--json")).out)["owner"]
    bobs = owner.folder / "bob"
    assert (await owner.desk.run("login", owner.desk.node, "--new", home=bobs)).status == 0
    return alice, bobs


async def _ran_as(
    owner: Owner, home: Path, *options: str, variables: Mapping[str, str] = {}
) -> tuple[int, str]:
    """Run the script as another user of the machine, and return its status and output."""
    here = owner.folder / "here"

    def run() -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [*owner.command, "run", "--home", str(home), *options, "--", *SHOWN],
            env={"PATH": os.environ["PATH"], **OUR_IMPORTS, **variables},
            cwd=here,
            stderr=subprocess.PIPE,
            timeout=LIMIT_S,
        )

    ran = await asyncio.to_thread(run)
    return ran.returncode, ran.stderr.decode()


async def _share(desk: OwnerDesk, bobs: Path) -> None:
    bob = json.loads((await desk.run("whoami", "--json", home=bobs)).out)["owner"]
    shared = await desk.run("secret", "share", *VALUES, "--with", bob)
    assert shared.status == 0, shared


async def test_CL1_of_shared_secrets_only_names_of_secrets_are_passed(owner: Owner) -> None:
    """CL1, CL6: of shared secrets, only those with names of secrets are passed unasked."""
    alice, bobs = await _alice(owner)
    await _share(owner.desk, bobs)
    shared = ("--from", alice)
    status, told = await _ran_as(owner, bobs, *shared)
    first, second = told.splitlines()
    assert (status, second) == (0, "***,,,")
    assert first.startswith(
        "secrets not passed (3): DATABASE_URL, TAR_OPTIONS, UNKNOWN_OPTS; by default,"
    )
    status, told = await _ran_as(owner, bobs, *shared, "--all")
    assert status == 2 and "--all passes only your own secrets" in told
    named = ("--only", "API_KEY,DATABASE_URL,UNKNOWN_OPTS")
    assert await _ran_as(owner, bobs, *shared, *named) == (0, "***,***,***,\n")
    status, told = await _ran_as(owner, bobs, *shared, "--only", "API_KEY,TAR_OPTIONS")
    assert status == 2 and "refusing to set TAR_OPTIONS: this variable controls" in told
    project = owner.here / ".sealspace.toml"
    project.write_text('secrets = ["API_KEY"]\n[rename]\nOTHER_OPTS = "UNKNOWN_OPTS"')
    project.chmod(0o600)
    status, told = await _ran_as(owner, bobs, *shared)
    assert status == 2
    assert "refusing to set OTHER_OPTS: somebody else chose the values" in told
    assert "name all that you want: --only API_KEY,OTHER_OPTS" in told
    status, told = await _ran_as(owner, bobs, *shared, "--only", "API_KEY,OTHER_OPTS")
    assert (status, told.splitlines()[-1]) == (0, "***,,,")
    project.write_text('[rename]\nOTHER_TOKEN = "UNKNOWN_OPTS"')
    assert (await _ran_as(owner, bobs, *shared))[0] == 0


async def test_CL1_all_of_the_owners_secrets(owner: Owner) -> None:
    """CL1, CL6: `--all` passes every secret of the scope, but not names that direct programs."""
    await owner.store_secrets(API_KEY="the key", LOG_LEVEL="the level")
    await owner.store_secrets("ci", API_KEY="another key")
    shows = ("--", "sh", "-c", 'echo "$API_KEY,$LOG_LEVEL"')
    ran = await owner.run("run", *shows)
    assert (ran.returncode, ran.stdout) == (0, b"***,\n")
    assert ran.stderr.decode() == (
        "secrets not passed (1): LOG_LEVEL; by default, only names like API_KEY are passed;"
        " to choose: --only A,B or --all\n"
    )
    ran = await owner.run("run", "--all", *shows)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"***,***\n", b"")
    await owner.store_secrets(TAR_OPTIONS="--to-command=sh")
    ran = await owner.run("run", "--all", *shows)
    assert ran.returncode == 2 and b"refusing to set TAR_OPTIONS" in ran.stderr
    ran = await owner.run("run", "--all", "--only", "API_KEY", *shows)
    assert ran.returncode == 2 and b"--all and --only cannot be combined" in ran.stderr
    project = owner.here / ".sealspace.toml"
    project.write_text('secrets = ["API_KEY"]')
    project.chmod(0o600)
    ran = await owner.run("run", "--all", *shows)
    assert ran.returncode == 2 and b"--all contradicts the project file" in ran.stderr


async def test_CL5_a_token_of_another_owner(owner: Owner) -> None:
    """CL5: of another owner's token, only secrets with names of secrets are passed unasked."""
    _, bobs = await _alice(owner)
    names = ("API_KEY", "DATABASE_URL", "UNKNOWN_OPTS")
    options = [part for name in names for part in ("--secret", name)]
    line = (await owner.desk.run("token", "create", "deploy", *options)).out.strip()
    variables = {"SEALSPACE_TOKEN": line, "SEALSPACE_NODE": owner.desk.node}
    status, told = await _ran_as(owner, bobs, variables=variables)
    assert (status, told.splitlines()[1]) == (0, "***,,,")
    assert told.startswith("secrets not passed (2): DATABASE_URL, UNKNOWN_OPTS;")
    status, told = await _ran_as(owner, bobs, "--all", variables=variables)
    assert status == 2 and "--all passes only your own secrets" in told
    named = ("--only", ",".join(names))
    assert await _ran_as(owner, bobs, *named, variables=variables) == (0, "***,***,***,\n")
    for home in (owner.folder / "none", owner.desk.home):
        assert await _ran_as(owner, home, variables=variables) == (0, "***,***,***,\n")


async def test_CL6_a_token_with_a_name_that_directs_programs(owner: Owner) -> None:
    """CL6: a token's names are refused too, also on a machine without a login."""
    await _alice(owner)
    options = ("--secret", "API_KEY", "--secret", "TAR_OPTIONS")
    line = (await owner.desk.run("token", "create", "deploy", *options)).out.strip()
    variables = {"SEALSPACE_TOKEN": line, "SEALSPACE_NODE": owner.desk.node}
    home = owner.folder / "none"
    status, told = await _ran_as(owner, home, variables=variables)
    assert status == 2 and "refusing to set TAR_OPTIONS" in told and "***" not in told
    assert await _ran_as(owner, home, "--only", "API_KEY", variables=variables) == (0, "***,,,\n")
