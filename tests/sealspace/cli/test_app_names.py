"""Tests of the option `--name` of commands that approve code, and of what shows the name (CN19)."""

import json

from backend_desk import Desk

from capabilities.cacao import Cacao
from capabilities.facts import ATTESTATION_URN
from capabilities.recap import PREFIX as RECAP_PREFIX
from capabilities.tokens import parse_delegation
from sealspace.documents.app_names import read_app_names
from sealspace.wire.portable import decode_bundle

PINNED = "services:\n  notes:\n    image: ghcr.io/acme/notes@sha256:" + "ab" * 32 + "\n"
OTHER = PINNED.replace("ab", "cd")
NAME = "Notes, build 7"


async def test_CN19_a_name_is_signed_and_shown(desk: Desk) -> None:
    """The name and the names of the code are signed with the grant, and shown by every command that
    lists or describes it."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    site = await desk.backend(PINNED)
    granted = await desk.run("backend", "grant", site.url, "--yes", "--name", NAME, "--json")
    assert granted.status == 0, granted
    made = json.loads(granted.out)
    assert made["appName"] == NAME
    assert f'name           "{NAME}", signed with the grant' in granted.err
    (portable,) = decode_bundle((desk.home / "grants" / f"{made['granted']}.json").read_bytes())
    app = read_app_names(portable.header)
    assert app is not None and app.name == NAME and app.code is not None
    assert app.code["images"] == [
        {
            "service": "notes",
            "reference": "ghcr.io/acme/notes@sha256:" + "ab" * 32,
            "publisher": "ghcr.io/acme",
        }
    ]
    listed = await desk.run("grant", "list")
    assert f'"{NAME}" did:key:' in listed.out
    described = json.loads((await desk.run("grant", "list", "--json")).out)
    assert [one["appName"] for one in described] == [NAME]
    of_backends = await desk.run("backend", "list")
    assert f'"{NAME}" did:key:' in of_backends.out
    shown = await desk.run("grant", "show", made["granted"])
    assert f'called   "{NAME}"' in shown.out
    assert "called   image notes: ghcr.io/acme/notes@sha256:" in shown.out
    again = await desk.run("backend", "show", site.url)
    assert f'you called it  "{NAME}" in your grant {made["granted"][:16]}…' in again.out
    # another machine has no file of the grant, and learns the name from the node
    (desk.home / "grants" / f"{made['granted']}.json").unlink()
    described = json.loads((await desk.run("grant", "list", "--json")).out)
    assert [(one["appName"], one["madeHere"]) for one in described] == [(NAME, False)]
    shown = await desk.run("grant", "show", made["granted"])
    assert f'called  "{NAME}"' in shown.out


async def test_CN19_nothing_is_signed_without_a_name(desk: Desk) -> None:
    """Without the option, a grant has no statement about names."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    site = await desk.backend(PINNED)
    made = json.loads((await desk.run("backend", "grant", site.url, "--yes", "--json")).out)
    assert "appName" not in made
    (portable,) = decode_bundle((desk.home / "grants" / f"{made['granted']}.json").read_bytes())
    envelope = parse_delegation(portable.header).envelope
    assert isinstance(envelope, Cacao)
    policy, recap = envelope.message.resources
    assert policy.startswith(ATTESTATION_URN) and recap.startswith(RECAP_PREFIX)
    listed = json.loads((await desk.run("grant", "list", "--json")).out)
    assert [one["appName"] for one in listed] == [None]


async def test_CN19_a_bad_name_is_refused_before_anything_else(desk: Desk) -> None:
    """A name that could be mistaken is refused before the backend is asked."""
    refused = await desk.run("backend", "grant", "http://127.0.0.1:9", "--name", "a\u202eb")
    assert refused.status != 0
    assert "U+202E" in refused.err and "127.0.0.1:9" not in refused.err


async def test_CN19_a_similar_name_of_another_backend_is_a_warning(desk: Desk) -> None:
    """Before the question, the owner sees that a grant to another DID has a similar name."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    first = await desk.backend(PINNED)
    made = await desk.run("backend", "grant", first.url, "--yes", "--name", NAME)
    assert made.status == 0, made
    same = await desk.run("backend", "grant", first.url, "--yes", "--name", NAME)
    assert "similar name" not in same.out
    second = await desk.backend(OTHER, seed=2)
    asked = await desk.run("backend", "grant", second.url, "--name", "notes BUILD-7", typed="no\n")
    did = first.program.backend.did
    assert f"to {did} has a similar name" in asked.out
    other = await desk.run("backend", "grant", second.url, "--name", "Notes, build 8", typed="no\n")
    assert "similar name" not in other.out
