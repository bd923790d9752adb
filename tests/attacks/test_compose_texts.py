"""Attempts to show an owner a compose file that the approved code does not have, or to have the
page say of it what it does not say (CN20)."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from node_js import NODE_JS, NODE_JS_ABSENT, Scripts, node_js

TEXT = "services:\n  notes:\n    image: ghcr.io/acme/notes@sha256:" + "ab" * 32 + "\n"
EVIL = TEXT.replace("acme", "evil")
MAX_BYTES = 256 * 1024
PROVE = """async ({ text, hashes }) => {
  const { provenText } = await import("/console/wire/compose.js");
  const { fromHex } = await import("/console/wire/bytes.js");
  try {
    return (await provenText(fromHex(text), hashes)).text;
  } catch (error) {
    return error.details.problem;
  }
}"""
DESCRIBE = """async (texts) => {
  const { describeCompose } = await import("/console/wire/compose.js");
  return texts.map((text) => {
    const from = performance.now();
    const spent = () => performance.now() - from;
    try {
      const said = describeCompose(text);
      return { said, spentMs: spent() };
    } catch (error) {
      return { line: error.details.line, spentMs: spent() };
    }
  });
}"""


@pytest.fixture(scope="module")
def console() -> Iterator[Scripts]:
    """The console's modules, without a node: they send nothing."""
    if NODE_JS is None:
        pytest.skip(NODE_JS_ABSENT)
    with node_js("http://127.0.0.1:9") as scripts:
        yield scripts
        assert scripts.requests == []


def digest(text: bytes) -> str:
    """Return the SHA-256 that a quote proves, in hex."""
    return hashlib.sha256(text).hexdigest()


def prove(console: Scripts, text: bytes, *hashes: str) -> str:
    """Return the text that the page shows, or why it shows none."""
    found: str = console.evaluate(PROVE, {"text": text.hex(), "hashes": list(hashes)})
    return found


def test_CN20_a_text_with_the_digest_only_after_normalisation(console: Scripts) -> None:
    """A text that would have the digest with other line ends, spaces, marks, Unicode forms or JSON
    spelling is another text. The very text is shown as it is."""
    text = json.dumps({"name": "caf\u00e9", "docker_compose_file": TEXT}, ensure_ascii=False)
    genuine = f"{text}\n".encode()
    others = (
        genuine.replace(b"\n", b"\r\n"),
        genuine.rstrip(),
        genuine + b"\n",
        b"\xef\xbb\xbf" + genuine,
        genuine.replace("\u00e9".encode(), "e\u0301".encode()),
        json.dumps(json.loads(genuine)).encode(),
        genuine.replace(b": ", b":"),
        genuine.decode().encode("utf-16"),
        b"",
    )
    for other in others:
        assert prove(console, other, digest(genuine)) == "other"
    assert prove(console, genuine, digest(genuine)) == genuine.decode()
    # a byte-order mark that belongs to the file stays in the text that is shown
    assert prove(console, others[3], digest(others[3])) == others[3].decode()


def test_CN20_a_digest_of_other_code(console: Scripts) -> None:
    """A text is shown only if its whole digest is one that the code may have."""
    genuine = digest(TEXT.encode())
    for hashes in (
        [],
        [digest(EVIL.encode())],
        [genuine[:32]],
        [genuine.upper()],
        ["", genuine + "00"],
    ):
        assert prove(console, TEXT.encode(), *hashes) == "other"
    assert prove(console, TEXT.encode(), "00" * 32, genuine) == TEXT


def test_CN20_long_texts_are_not_hashed(console: Scripts) -> None:
    """Ten megabytes are refused for their size, also if their digest is right."""
    for size_bytes in (MAX_BYTES + 1, 10_000_000):
        long = b"#" * size_bytes
        assert prove(console, long, digest(long)) == "too-large"
    most = b"#" * MAX_BYTES
    assert prove(console, most, digest(most)) == most.decode()
    assert prove(console, b"\xff\xfe", digest(b"\xff\xfe")) == "not-text"


def bombs() -> dict[str, str]:
    """Return texts that grow, nest or repeat without end, each below the limit of size."""
    laughs = "a0: &a0 [x, x]\n" + "".join(
        f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}]\n" for level in range(1, 30)
    )
    return {
        "aliases": f"{laughs}services: {{a: {{image: *a29}}}}\n",
        "merges": "x: &x {image: good}\nservices:\n  a:\n    <<: *x\n",
        "tags": "services: {a: {image: !!python/object/apply:os.system [id]}}\n",
        "flow depth": "services: " + "[" * 4000 + "]" * 4000 + "\n",
        "block depth": "".join(" " * depth + "a:\n" for depth in range(600)),
        "sequence depth": "- " * 2000 + "a\n",
        "long line": "services: {" + "a: b, " * 40_000 + "}\n",
        "one long name": "a" * (MAX_BYTES - 10) + ": b\n",
        "spaces": " " * (MAX_BYTES - 10) + "a: b\n",
        "lines": "\n" * (MAX_BYTES - 10),
        "quotes": 'a: "' + "\\n" * 100_000 + "\n",
        "comments": "a: b " + "#" * (MAX_BYTES - 10) + "\n",
        "many services": "services:\n" + "".join(f"  s{one}: {{image: x}}\n" for one in range(65)),
        "many variables": "services:\n  a:\n    image: x\n    environment:\n"
        + "".join(f"      V{one}: x\n" for one in range(513)),
        "json depth": '{"a":' * 20_000 + "1" + "}" * 20_000,
        "json twice": json.dumps({"runner": "docker-compose", "docker_compose_file": TEXT})[:-1]
        + f', "docker_compose_file": {json.dumps(EVIL)}}}',
    }


@pytest.mark.parametrize("name", bombs())
def test_CN20_bombs_are_not_described(console: Scripts, name: str) -> None:
    """No alias is expanded, and no text takes long. What is not read is said to be not read."""
    (result,) = console.evaluate(DESCRIBE, [bombs()[name]])
    assert "line" in result
    assert result["spentMs"] < 5_000


def test_CN20_two_readings_of_one_text(console: Scripts) -> None:
    """A file that Docker could read as other code than the page is not described: a service or an
    image that is named twice, in two documents, behind a comment, or in a text over two lines."""
    twice = TEXT + "    image: evil\n"
    texts = (
        twice,
        TEXT + EVIL,
        TEXT + "---\n" + EVIL,
        TEXT + "...\n" + EVIL,
        TEXT.replace("image:", "image: !reset"),
        TEXT.replace("\n    image", "\n\timage"),
        TEXT.replace("ghcr", "\n      ghcr"),
        TEXT.rstrip() + "\n      more\n",
        TEXT.replace("notes:\n", "notes: # \r    image: evil\n"),
        TEXT.replace("notes:\n", "notes: # \u2028    image: evil\n"),
        TEXT.replace("notes:\n", "notes: # \u0085    image: evil\n"),
        TEXT.replace("ghcr", "\u202eghcr"),
    )
    for text, result in zip(texts, console.evaluate(DESCRIBE, texts), strict=True):
        assert "line" in result, text


def test_CN20_code_from_elsewhere_is_named(console: Scripts) -> None:
    """Members that bring other code, or power over the machine, are listed for each service."""
    members = ("build: .", "extends: {file: x}", "env_file: .env", "privileged: true", "pid: host")
    added = "".join(f"    {member}\n" for member in members)
    (result,) = console.evaluate(DESCRIBE, [f"include: [other.yaml]\n{TEXT}{added}"])
    said: Any = result["said"]
    named = [f"services.notes.{member.partition(':')[0]}" for member in members]
    assert [line["place"] for line in said["lines"]] == ["include", *named]
    (result,) = console.evaluate(DESCRIBE, ["services: {a: {build: .}}\n"])
    assert result["said"]["images"] == [{"service": "a", "text": ""}]
