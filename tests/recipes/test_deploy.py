"""The container files of `examples/deploy`, as far as they can be checked without an engine.

The image is built and run by hand: `make test-image`. No service is started as the compose file has
it; `test_caddy.py` runs Caddy and a node with its settings.
"""

import copy
import fnmatch
import io
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from base_install import quick_python
from compose_schema import COMPOSE_SCHEMA, COMPOSE_SCHEMA_ABSENT, compose_faults
from containerfile import Instruction, read_containerfile
from patience import PATIENCE_S
from tests_support import PACKAGES, REPOSITORY

from node.config.loading import load_config

DEPLOY = REPOSITORY / "examples" / "deploy"
CONTAINERFILE = read_containerfile(DEPLOY / "Containerfile")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


def _all(word: str, stage: int | None = None) -> list[Instruction]:
    return [one for one in CONTAINERFILE if one.word == word and stage in (None, one.stage)]


LAST = CONTAINERFILE[-1].stage
COMPOSER = shutil.which("docker-compose")


def test_what_the_image_is_made_of_exists() -> None:
    """Everything that is copied is in the repository and sent to the build, or comes from an
    earlier stage."""
    sent = [
        line
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    stages = {one.words[-1]: one.stage for one in _all("FROM") if " AS " in one.text}
    copied = []
    for one in _all("COPY"):
        *sources, _ = one.words
        if "from" in one.options:
            assert stages[one.options["from"]] < one.stage
            continue
        copied += sources
        assert one.stage < LAST, "the image itself gets what was built, no source"
        for source in sources:
            assert (REPOSITORY / source).exists()
            assert any(fnmatch.fnmatch(source, line[1:]) for line in sent), source
    assert set(PACKAGES) < set(copied)
    assert {line[1:] for line in sent} == set(copied)
    assert _all("ADD") == []


def test_steps_are_those_of_the_script() -> None:
    """Each build stage runs a script that it contains and that a shell can parse."""
    runs = [one.words for one in _all("RUN") if one.stage < LAST]
    assert [words[0] for words in runs] == ["sh", "sh"]
    for words, one in zip(runs, _all("RUN"), strict=False):
        targets = [
            copy.words[-1]
            for copy in _all("COPY", one.stage)
            if "examples/deploy/install.sh" in copy.words
        ]
        assert [f"{target}install.sh" for target in targets] == [words[1]]
    for script in DEPLOY.glob("*.sh"):
        subprocess.run(["sh", "-n", str(script)], check=True, timeout=PATIENCE_S)
    steps = re.findall(r"^(\w+)\)$", (DEPLOY / "install.sh").read_text(), re.MULTILINE)
    assert [words[2] for words in runs] == steps
    assert "--require-hashes" in (DEPLOY / "install.sh").read_text()


def test_the_base_is_an_argument() -> None:
    """Every stage uses one base image, which the build has to name with its digest."""
    arguments = {name: value for one in _all("ARG") for name, value in one.pairs.items()}
    assert arguments["DIGEST"] == "" and arguments["BASE"]
    assert {one.words[0] for one in _all("FROM")} == {"${BASE}${DIGEST:+@${DIGEST}}"}


def test_the_image_runs_without_rights() -> None:
    """The image has a numeric user, commands without a shell, one data folder, a health check, no
    secret."""
    (user,) = _all("USER", LAST)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user.text)
    for word in ("ENTRYPOINT", "CMD", "HEALTHCHECK", "VOLUME"):
        (one,) = _all(word, LAST)
        assert one.command, one
    (variables,) = (one.pairs for one in _all("ENV", LAST))
    assert _all("VOLUME", LAST)[0].command == [variables["SEALSPACE_STORE__DATA"]]
    assert _all("STOPSIGNAL", LAST)[0].text == "SIGTERM"
    named = {
        name for one in CONTAINERFILE if one.word in ("ARG", "ENV", "LABEL") for name in one.pairs
    }
    assert not [name for name in named if re.search("SECRET|PASSWORD|TOKEN|KEY", name.upper())]


@pytest.mark.skipif(COMPOSER is None, reason="docker-compose is not installed")
def test_compose_takes_the_file(tmp_path: Path) -> None:
    """The compose file follows the schema, and variables from outside reach the services."""
    # Version 1, which Debian has, does not know the project's name.
    text = (DEPLOY / "compose.yaml").read_text("utf-8").replace("name: sealspace\n", "", 1)
    (tmp_path / "compose.yaml").write_text(text)
    settings = {
        "SEALSPACE_SITE": "node.example",
        "PYTHON_DIGEST": "sha256:ab",
        "CADDY_IMAGE": "caddy@sha256:cd",
    }
    command = [str(COMPOSER), "--file", "compose.yaml", "config"]
    environment = {"PATH": os.environ["PATH"], **settings}
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    services = yaml.safe_load(ran.stdout)["services"]
    assert services["caddy"]["environment"]["SEALSPACE_SITE"] == "node.example"
    assert services["caddy"]["image"] == "caddy@sha256:cd"
    assert services["node"]["build"]["args"] == {"DIGEST": "sha256:ab"}


@pytest.mark.skipif(COMPOSE_SCHEMA is None, reason=COMPOSE_SCHEMA_ABSENT)
def test_the_file_follows_the_specification() -> None:
    """The compose file follows the schema of the Compose specification; a misspelt member does
    not."""
    assert compose_faults(COMPOSE) == []
    misspelt = copy.deepcopy(COMPOSE)
    misspelt["services"]["node"]["read_onyl"] = True
    assert len(compose_faults(misspelt)) == 1


def test_services_are_confined() -> None:
    """Services have a read-only root and only the listed capabilities; only Caddy is published."""
    for name, service in SERVICES.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else [])
        assert not service.get("privileged") and "network_mode" not in service
        assert service["healthcheck"]["test"][0] == "CMD"
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"caddy"}
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert networks == {
        "caddy": {"outside", "front"},
        "node": {"front", "back"},
        "database": {"back"},
    }
    assert {name for name, network in COMPOSE["networks"].items() if network.get("internal")} == {
        "front",
        "back",
    }
    assert {
        one["condition"]
        for service in SERVICES.values()
        for one in service.get("depends_on", {}).values()
    } == {"service_healthy"}


def test_what_services_refer_to_exists() -> None:
    """The volumes, secrets, files and the image that services refer to exist, and so does the user
    that reads them."""
    named = {
        mount.partition(":")[0] for service in SERVICES.values() for mount in service["volumes"]
    }
    assert named - {"./Caddyfile"} == set(COMPOSE["volumes"])
    assert {
        secret for service in SERVICES.values() for secret in service.get("secrets", [])
    } == set(COMPOSE["secrets"])
    build = SERVICES["node"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Containerfile")
    assert (DEPLOY / build["context"]).samefile(REPOSITORY)
    assert set(build["args"]) <= {name for one in _all("ARG") for name in one.pairs}
    assert SERVICES["node"]["healthcheck"]["test"][1:] == _all("HEALTHCHECK")[0].command
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["node"]["volumes"])
    assert [*mounts.values()] == _all("VOLUME", LAST)[0].command


def test_no_secret_is_in_the_environment() -> None:
    """Secrets are passed as files; variables contain at most a file's name."""
    for service in SERVICES.values():
        for name, value in service["environment"].items():
            if re.search("SECRET|PASS|TOKEN|KEY", name):
                assert (
                    value.startswith("/run/secrets/")
                    and value.removeprefix("/run/secrets/") in service["secrets"]
                )
    assert "@" not in re.sub(r"//\w+@", "", SERVICES["node"]["environment"]["SEALSPACE_STORE__URL"])


def test_the_node_believes_caddy_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A node starts with the settings, and trusts no proxy but Caddy's address."""
    for name, value in SERVICES["node"]["environment"].items():
        monkeypatch.setenv(name, value)
    config = load_config(flags={"store.data": str(tmp_path)})
    caddy, node = (
        SERVICES[name]["networks"]["front"]["ipv4_address"] for name in ("caddy", "node")
    )
    assert config.http.trusted_proxies == (caddy,) and caddy != node
    assert config.http.host == "0.0.0.0"
    assert SERVICES["caddy"]["environment"]["SEALSPACE_NODE"] == f"node:{config.http.port}"
    assert int(SERVICES["node"]["stop_grace_period"].removesuffix("s")) > config.http.drain_s + 2


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """Each secret is readable by one user, and a second run changes nothing."""
    me = str(os.getuid())
    command = ["sh", str(DEPLOY / "new-secrets.sh")]
    variables = {**os.environ, "NODE_USER": me, "DATABASE_USER": me}
    subprocess.run(command, cwd=tmp_path, env=variables, check=True, timeout=PATIENCE_S)
    made = {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == set(COMPOSE["secrets"])
    for name in made:
        assert COMPOSE["secrets"][name] == {"file": f"./secrets/{name}"}
        assert (tmp_path / "secrets" / name).stat().st_mode & 0o777 == 0o400
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    password = made["database_password"].decode()
    assert len(made["root_secret"]) == 32 and re.fullmatch("[0-9a-f]{64}", password)
    address = re.fullmatch(
        r"postgresql://(\w+)@(\w+)/(\w+)", SERVICES["node"]["environment"]["SEALSPACE_STORE__URL"]
    )
    assert address is not None
    user, host, database = address.groups()
    assert made["database_pgpass"].decode() == f"{host}:5432:{database}:{user}:{password}\n"
    assert host in SERVICES and SERVICES[host]["environment"]["POSTGRES_USER"] == user
    again = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert again.returncode != 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()} == made


@pytest.mark.slow
def test_an_install_runs_no_code_of_a_source_distribution(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An index that offers a source distribution of a locked name is refused before its build
    backend runs."""
    for folder in ("links", "wheels"):
        (tmp_path / folder).mkdir()
    ran = tmp_path / "ran"
    about = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\n"
    files = {
        "PKG-INFO": about.format("planted"),
        "pyproject.toml": (
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        ),
        "backend.py": f"open({str(ran)!r}, 'w').close()\n",
    }
    with tarfile.open(tmp_path / "links" / "planted-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"planted-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    extras = "".join(f"Provides-Extra: {name}\n" for name in ("node", "postgres", "s3", "fast"))
    with zipfile.ZipFile(tmp_path / "wheels" / "sealspace-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "sealspace-1.0.dist-info/METADATA",
            about.format("sealspace") + "Requires-Dist: planted\n" + extras,
        )
        wheel.writestr(
            "sealspace-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("sealspace-1.0.dist-info/RECORD", "")
    (tmp_path / "lock").write_text(f"planted==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    command = [
        "sh",
        str(DEPLOY / "install.sh"),
        "environment",
        *(str(tmp_path / one) for one in ("lock", "wheels", "env")),
    ]
    python = quick_python(tmp_path_factory.getbasetemp())
    variables = {
        **os.environ,
        "PATH": f"{python}:{os.environ['PATH']}",
        "PYTHONPYCACHEPREFIX": "",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "links"),
    }
    made = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert made.returncode != 0, made.stderr
    assert "Cannot install sealspace" in made.stderr
    assert not ran.exists()
