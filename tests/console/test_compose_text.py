"""Tests of the text of a compose file, which the console compares with the digest in a quote and
describes (CN20)."""

import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from browser import Browser, BrowserWallet
from console_stage import ConsolePage, add_secret, console_page, request_link
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from node_js import Scripts
from playwright.async_api import FilePayload, expect
from published_folder import PublishedFolder
from trust_settings import trusting_config

from sealspace.session import key_session
from tee_backend.measuring.input_folder import read_inputs
from tee_backend.measuring.reference_values import measure, measured_json

PINNED = "ghcr.io/acme/notes@sha256:" + "ab" * 32
SERVICES = f"""\
# the services of Notes
services:
  notes:
    image: "{PINNED}"
    volumes:
      - notes-data:/data
      - type: bind
        source: /var/run/docker.sock
        target: /docker.sock
    environment:
      - LOG_LEVEL=debug
      - API_KEY
    privileged: true
  proxy:
    image: caddy:2   # without a digest
    environment: {{ DOMAIN: 'notes.example', EMAIL: "x" }}
    command: |
      run: this
        - is not: read
    volumes: [a:/b]
volumes:
  notes-data:
"""
APP = {
    "manifest_version": 2,
    "name": "acme-notes",
    "runner": "docker-compose",
    "docker_compose_file": SERVICES,
    "allowed_envs": ["API_KEY"],
    "pre_launch_script": "echo",
    "public_logs": True,
}
DESCRIBE = """async (texts) => {
  const { describeCompose } = await import("/console/wire/compose.js");
  return texts.map((text) => {
    try {
      return describeCompose(text);
    } catch (error) {
      return error.details?.line ?? String(error);
    }
  });
}"""
READ = """async (texts) => {
  const { readYaml } = await import("/console/wire/yaml.js");
  const plain = (node) => node instanceof Map ? [...node].map(([name, one]) => [name, plain(one)])
    : Array.isArray(node) ? { items: node.map(plain) } : node.block ? "" : node;
  return texts.map((text) => {
    try {
      return { read: plain(readYaml(text)) };
    } catch (error) {
      if (!error.details?.line) throw error;
      return { line: error.details.line };
    }
  });
}"""
SAMPLES = (
    SERVICES,
    "a: b\n",
    "---\na: b\n",
    "a:\n- b\n- - c\n  - d\n- e: f\n  g: h\n-\n  i: j\n",
    "a: 'it''s'\nb: \"x\\\"y\\n\"\nc: 8080:80\nd: http://x/#y\ne: x #y\nf: ''\n",
    "a: {b: [c, 'd', {e: f}], g: h}\ni: []\nj: {}\n",
    "a: |\n  b\n   c\n\n  d\ne: >-\n    f\ng:\n  # comment\n  h: i\n",
    "a:\n  b:\n    c:\n  d: e\n",
    "a.b/c-d$: x\n",
)


def test_CN20_what_a_file_says(scripts: Scripts) -> None:
    """Images, mounts, names of variables without values, and what comes from elsewhere."""
    (services, app) = scripts.evaluate(DESCRIBE, [SERVICES, json.dumps(APP)])
    assert services["images"] == [
        {"service": "notes", "text": PINNED},
        {"service": "proxy", "text": "caddy:2"},
    ]
    bind = "type bind, source /var/run/docker.sock, target /docker.sock"
    assert services["mounts"] == [
        {"service": "notes", "text": "notes-data:/data"},
        {"service": "notes", "text": bind},
        {"service": "proxy", "text": "a:/b"},
    ]
    names = [(one["service"], one["text"]) for one in services["variables"]]
    assert names == [
        ("notes", "LOG_LEVEL"),
        ("notes", "API_KEY"),
        ("proxy", "DOMAIN"),
        ("proxy", "EMAIL"),
    ]
    places = [line["place"] for line in services["lines"]]
    assert places == [
        "services.notes.volumes.2",
        "services.notes.environment.API_KEY",
        "services.notes.privileged",
        "services.proxy.image",
    ]
    assert (services["name"], app["name"]) == ("", "acme-notes")
    app_places = [line["place"] for line in app["lines"]]
    assert app_places == ["allowed_envs", "pre_launch_script", "public_logs", *places]


def plain(node: yaml.Node | None) -> Any:
    """Return a tree of YAML as texts without types, as the page's reader does."""
    if node is None:
        return ""
    if isinstance(node, yaml.ScalarNode):
        return "" if node.style in ("|", ">") else node.value
    if isinstance(node, yaml.SequenceNode):
        return {"items": [plain(one) for one in node.value]}
    names = [name.value for name, _ in node.value]
    assert len(names) == len(set(names))
    return [[name.value, plain(value)] for name, value in node.value]


PIECES = (
    *("", " ", "  ", "\n", "\n  ", ":", ": ", "- ", "#", " #", "'", '"', "[", "]", "{", "}"),
    *(",", "&a ", "*a", "!!x ", "|", ">", "?", "\t", "\\", "<<: ", "x", "-", "%", "\u00e9"),
)


def changed(text: str, source: random.Random) -> str:
    """Return a text with some characters or lines removed, repeated or replaced."""
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(text) + 1)
        length = source.choice((0, 1, 1, 2, 8))
        piece = source.choice((*PIECES, text[at : at + 20]))
        text = text[:at] + piece + text[at + length :]
    return text


def test_CN20_the_reader_agrees_with_another(scripts: Scripts) -> None:
    """Whatever the page's reader reads, another reader of YAML reads in the same way."""
    source = random.Random(58)
    texts = [*SAMPLES]
    texts += [changed(source.choice(SAMPLES), source) for _ in range(4000)]
    results = scripts.evaluate(READ, texts)
    assert all("read" in result for result in results[: len(SAMPLES)])
    read_count = 0
    for text, result in zip(texts, results, strict=True):
        if "read" in result:
            read_count += 1
            assert plain(yaml.compose(text, Loader=yaml.SafeLoader)) == result["read"], text
    assert read_count > 400


REFUSED = (
    ("a: &x b\n", 1),
    ("a: b\nc: *x\n", 2),
    ("a: !!str b\n", 1),
    ("a:\n  <<: {b: c}\n", 2),
    ("a: b\na: c\n", 2),
    ("a: {b: c, b: d}\n", 1),
    ("a: b\n  c\n", 2),
    ("a: b\n---\nc: d\n", 2),
    ("%YAML 1.1\na: b\n", 1),
    ("? a\n: b\n", 1),
    ("a: [b,\n  c]\n", 1),
    ("a: b: c\n", 1),
    ('"a": b\n', 1),
    ("a:\tb\n", 1),
    ("a: b\rc: d\n", 1),
    ("a: b\u2028c: d\n", 1),
    ("a: b\u202e\n", 1),
    ("\ufeffa: b\n", 1),
    ("a: |2\n  b\n", 1),
    ("x" * 5000 + ": b\n", 1),
    ("\n".join("  " * depth + "a:" for depth in range(20)), 18),
    ("a: " + "[" * 40 + "]" * 40 + "\n", 1),
)


@pytest.mark.parametrize(("text", "line"), REFUSED)
def test_CN20_what_is_not_read(scripts: Scripts, text: str, line: int) -> None:
    """What readers read in two ways, or what could grow, is refused with its line."""
    assert scripts.evaluate(READ, [text]) == [{"line": line}]


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    """A simulated platform with a root certificate of its own."""
    return SimulatedPlatform.from_seed(b"tests of compose texts")


@pytest.fixture
def wary(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    platform: SimulatedPlatform,
    wallet: BrowserWallet,
) -> Iterator[ConsolePage]:
    """A tab at the console of a node that demands proof of code."""
    config = trusting_config(tmp_path_factory.mktemp("node"), platform)
    with browser.entered(embedded_node(config)) as node:
        trusting: EmbeddedNode = node
        with console_page(browser, trusting.url, wallet=wallet) as opened:
            yield opened
            assert opened.faults() == []


MANIFEST: dict[str, Any] = {
    "app_id": "com.example.notes",
    "name": "Notes",
    "defaults": False,
    "secrets": {"API_KEY": True},
}
FIELD = "Text of the compose file"


def test_CN20_the_owner_reads_a_compose_file(
    wary: ConsolePage, tmp_path_factory: pytest.TempPathFactory, platform: SimulatedPlatform
) -> None:
    """Before the approval, and in the details of the grant, the page shows what the file says if it
    has the digest, and refuses others with a sentence. It sends nothing."""
    text = SERVICES.replace("caddy:2 ", f"{PINNED} ").replace("    privileged: true\n", "")
    compose = json.dumps(APP | {"docker_compose_file": text}, indent=1)
    folder = PublishedFolder(folder=tmp_path_factory.mktemp("published"), compose=compose.encode())
    measured = measured_json(measure(read_inputs(folder.write(platform))))
    wary.sign_in()
    add_secret(wary, "API_KEY", "open sesame")
    did = key_session(bytes(31) + b"\x3e").did
    wary.go(request_link({**MANIFEST, "did": did}))
    wary.see("Who asks")
    wary.type("The code, as sealspace backend show --json printed it", json.dumps(measured))
    wary.run(wary.tab.get_by_text("Read the compose file").click())
    wary.run(expect(wary.tab.get_by_label(FIELD)).to_be_visible())
    sent: list[str] = []
    wary.tab.on("request", lambda request: sent.append(request.url))
    wary.type(FIELD, compose.replace("debug", "trace"))
    wary.see("This is another text")
    wary.run(expect(wary.tab.get_by_text("Mounts")).to_have_count(0))
    wary.type(FIELD, compose)
    for words in ("Its SHA-256 is that of the code", "notes-data:/data", "LOG_LEVEL", "acme-notes"):
        wary.see(words)
    wary.shot("compose-text")
    assert wary.accessibility_problems() == []
    # a file keeps its line ends; a field of text does not
    crlf = FilePayload(
        name="app-compose.json", mimeType="", buffer=compose.replace("\n", "\r\n").encode()
    )
    chooser = wary.tab.get_by_label("Choose the compose file")
    wary.run(chooser.set_input_files([crlf]))
    wary.see("This is another text")
    exact = FilePayload(name="app-compose.json", mimeType="", buffer=compose.encode())
    wary.run(chooser.set_input_files([exact]))
    wary.see("Its SHA-256 is that of the code")
    huge = FilePayload(name="big", mimeType="", buffer=bytes(10_000_000))
    wary.run(chooser.set_input_files([huge]))
    wary.see("more than 256 KiB")
    assert sent == []
    wary.click("Approve")
    wary.see("The grant is in force")
    wary.go(f"grants?find={did}")
    wary.run(wary.tab.get_by_role("button", name="Details of the grant").click())
    wary.run(wary.tab.locator("dialog").get_by_text("Read the compose file").click())
    wary.type(FIELD, compose)
    wary.run(expect(wary.tab.locator("dialog .compose")).to_contain_text("notes-data:/data"))
    assert hashlib.sha256(compose.encode()).hexdigest() in json.dumps(measured)
