"""Tests of the console's envelopes and wrapped keys with the vectors and recorded messages."""

import base64
import json
from typing import Any

import pytest
from console_wire import WRITTEN_AGAIN, in_page, members
from node_js import Scripts
from tests_support import REPOSITORY, json_lines, shared_vectors

from capabilities.cacao import parse_cacao

VECTORS = REPOSITORY / "spec" / "vectors" / "encryption_network"


def _cases(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / name).read_text("utf-8"))["cases"]
    return cases


def test_envelopes_are_read_as_the_vectors_say(shared_scripts: Scripts) -> None:
    cases = _cases("envelope.json")
    answers = in_page(
        shared_scripts,
        """
        const { parseEnvelope, openEnvelope } = await at("envelope"), { utf8, text, fromHex } = await at("bytes");
        return Promise.all(given.map(([stored, key]) => caught(async () => {
          const envelope = await parseEnvelope(utf8(stored));
          return [envelope.networkId, key && text(await openEnvelope(envelope, fromHex(key)))];
        }).then((read) => read.code ?? read)));
        """,
        [[one["text"], one["expect"].get("content_key_hex")] for one in cases],
    )
    for case, answer in zip(cases, answers, strict=True):
        expect = case["expect"]
        whole = [expect.get("network"), expect.get("plaintext")]
        assert answer == (whole if "plaintext" in expect else "envelope-broken"), case["name"]


def test_wrapped_keys_are_opened_as_the_vectors_say(shared_scripts: Scripts) -> None:
    """Malformed and low-order keys are refused; a key wrapped here opens here."""
    cases = [one for one in _cases("keywrap.json") if one["operation"] == "open"]
    answers = in_page(
        shared_scripts,
        """
        const { newReceiver, rawKey, unwrapKey, wrapKey } = await at("envelope");
        const { concat, fromHex, hex } = await at("bytes");
        const head = fromHex("302e020100300506032b656e04220420");
        const opened = await Promise.all(given.map(([key, blob]) => caught(async () => {
          const pkcs8 = concat(head, fromHex(key));
          const secret = await crypto.subtle.importKey("pkcs8", pkcs8, "X25519", false, ["deriveBits"]);
          return { key: hex(await unwrapKey(secret, fromHex(blob))) };
        }).then((read) => read.code ?? read.key)));
        const receiver = await newReceiver(), content = new Uint8Array(32).fill(5);
        const wrapped = await wrapKey(content, await rawKey(receiver.publicKey));
        const low = await caught(() => wrapKey(content, new Uint8Array(32)));
        const own = hex(await unwrapKey(receiver.privateKey, wrapped));
        return { opened, own, size: wrapped.length, low: low.code };
        """,
        [[one["private_key_hex"], one["blob_hex"]] for one in cases],
    )
    for case, answer in zip(cases, answers["opened"], strict=True):
        assert answer == case["expect"].get("content_key_hex", "envelope-broken"), case["name"]
    assert answers["own"] == "05" * 32
    assert answers["size"] == 93
    assert answers["low"] == "envelope-broken"


@pytest.mark.shared
def test_recorded_messages_are_written_again(shared_scripts: Scripts) -> None:
    """The modules write the header, ReCap and sentence of other clients' messages byte for byte."""
    headers = list(
        dict.fromkeys(
            one["authorization"] for one in json_lines(shared_vectors("wire/sign-ins.jsonl"))
        )
    )
    messages = []
    for header in headers[:40]:
        if "." in header:
            continue
        data = base64.urlsafe_b64decode(header)
        message = parse_cacao(data).message
        recap = message.resources[-1].removeprefix("urn:recap:") if message.resources else ""
        if recap:
            stated = json.loads(base64.urlsafe_b64decode(recap + "=" * (-len(recap) % 4)))
            messages.append(
                [
                    members(data),
                    data.hex(),
                    stated["att"],
                    stated["prf"],
                    message.resources[-1],
                    message.statement,
                ]
            )
    assert len(messages) > 5
    same = in_page(
        shared_scripts,
        WRITTEN_AGAIN
        + """
        const { encodeRecap, recapSentence } = await at("recap");
        return given.map(([text, hexed, att, prf, resource, statement]) => [
          written(text) === hexed,
          encodeRecap(att, prf) === resource, statement.endsWith(recapSentence(att))]);
        """,
        messages,
    )
    assert same == [[True, True, True]] * len(messages)
