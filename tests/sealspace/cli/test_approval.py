"""Tests of what an owner sees of a backend's code before approving it."""

import json
from pathlib import Path

import pytest
from backend_desk import COMPOSE_HASH, Desk

from sealspace.cli.lazy import EXTRAS

PINNED = "services:\n  notes:\n    image: ghcr.io/acme/notes@sha256:" + "ab" * 32 + "\n"


async def test_changes_since_the_last_approval(desk: Desk) -> None:
    """A backend whose code changed is shown with the differences from the code of the last grant,
    shortened or whole."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    first = await desk.backend()
    before = await desk.run("backend", "show", first.url)
    assert "approved       nothing yet for this backend on this machine" in before.out
    granted = await desk.run("backend", "grant", first.url, "--yes")
    assert granted.status == 0, granted
    same = await desk.run("backend", "show", first.url)
    assert "approved       the same code as in your grant" in same.out
    second = await desk.backend(PINNED)
    shown = await desk.run("backend", "show", second.url)
    assert "was for other code:" in shown.out
    assert f"- compose file {COMPOSE_HASH[:16]}…" in shown.out
    # the image did not change
    assert "- code MRTD" not in shown.out
    whole = await desk.run("backend", "show", second.url, "--full")
    assert f"- compose file {COMPOSE_HASH}" in whole.out


async def test_publishers_of_the_images(desk: Desk) -> None:
    """The images of a published compose file are shown with their publishers; a file without
    digests has a line for each."""
    await desk.log_in()
    pinned = await desk.backend(PINNED)
    shown = await desk.run("backend", "show", pinned.url)
    assert "an application, which runs 1 image published at ghcr.io/acme" in shown.out
    assert "image          notes: ghcr.io/acme/notes@sha256:" in shown.out
    described = await desk.run("backend", "show", pinned.url, "--json")
    image = {
        "service": "notes",
        "reference": "ghcr.io/acme/notes@sha256:" + "ab" * 32,
        "publisher": "ghcr.io/acme",
    }
    code = {"name": "", "images": [image], "osImageHash": None}
    assert json.loads(described.out)["code"] == code
    unpinned = await desk.backend("services: {notes: {image: 'acme/notes:1.0'}}", seed=2)
    shown = await desk.run("backend", "show", unpinned.url)
    assert "allows         services.notes.image: is not pinned by a digest" in shown.out
    described = await desk.run("backend", "show", unpinned.url, "--json")
    assert json.loads(described.out)["allows"] == [
        "services.notes.image: is not pinned by a digest: its code can be replaced while the hash"
        " stays the same: acme/notes:1.0"
    ]


async def test_a_question_is_asked_after_the_changes(desk: Desk) -> None:
    """The confirmation of a grant shows the same lines before the question."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    backend = await desk.backend(PINNED)
    asked = await desk.run("backend", "grant", backend.url, typed="no\n")
    assert "approved       nothing yet" in asked.out
    assert "1 image published at ghcr.io/acme" in asked.out


WITH_SOCKET = f"""{PINNED}    privileged: yes
    volumes: [/var/run:/run]
"""


@pytest.mark.parametrize("option", ["--yes", "--like", "--expect"])
async def test_what_code_may_do_has_its_own_yes(desk: Desk, tmp_path: Path, option: str) -> None:
    """Options that name or skip the code do not allow what its compose file allows (AT71)."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    backend = await desk.backend(WITH_SOCKET)
    shown = await desk.run("backend", "show", backend.url, "--json")
    seen = json.loads(shown.out)
    assert len(seen["allows"]) == 2
    approved = tmp_path / "approved.json"
    approved.write_text(shown.out)
    registers = ("mrtd", "rtmr0", "rtmr1", "rtmr2")
    expected = [seen["composeHash"], seen["keyProvider"]]
    expected += [seen["measurements"][name] for name in registers]
    options = {
        "--yes": ["--yes"],
        "--like": ["--like", str(approved)],
        "--expect": [word for text in expected for word in ("--expect", text)],
    }[option]
    grant = ("backend", "grant", backend.url, "--secret", "API_KEY", *options)
    refused = await desk.run(*grant)
    assert refused.status != 0
    assert "allow all 2 lines" in refused.err
    assert seen["allowDigest"] in refused.err
    other = await desk.run(*grant, "--allow", "00" * 32)
    assert other.status != 0
    granted = await desk.run(*grant, "--allow", seen["allowDigest"])
    assert granted.status == 0, granted


async def test_the_lines_come_first(desk: Desk) -> None:
    """A grant first says whose images run, then what is not harmless, and then hashes."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    backend = await desk.backend(WITH_SOCKET)
    asked = await desk.run("backend", "grant", backend.url, typed="no\n")
    lines = asked.out.splitlines()
    assert lines[0].startswith("to approve     an application, which runs 1 image")
    assert lines[1].startswith("allows         services.notes.privileged: is privileged")
    assert lines[2].startswith("allows         services.notes.volumes.1: controls all containers")
    assert "allow all 2 lines" in asked.err


async def test_an_unread_file_is_not_approved(desk: Desk) -> None:
    """A published file that cannot be read is not approved, and shown as a warning (AT71)."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    backend = await desk.backend("services:\n  notes:\n    image: a\n    image: b\n")
    shown = await desk.run("backend", "show", backend.url)
    assert "warning: the published compose file is not a compose file" in shown.out
    refused = await desk.run("backend", "grant", backend.url, "--yes")
    assert refused.status != 0
    assert "repeats 'image'" in refused.err


async def test_without_the_parser(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `yaml`, a grant is refused with what to install (AT71)."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    backend = await desk.backend(PINNED)
    monkeypatch.setitem(EXTRAS, "yaml", ("not_installed_yaml",))
    refused = await desk.run("backend", "grant", backend.url, "--yes")
    assert refused.status != 0
    assert "pip install 'sealspace[yaml]'" in refused.err


async def test_a_file_that_is_not_published(desk: Desk, tmp_path: Path) -> None:
    """A backend cannot hide the lines by not publishing its compose file (AT71)."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    published = await desk.backend(WITH_SOCKET)
    approved = tmp_path / "approved.json"
    approved.write_text((await desk.run("backend", "show", published.url, "--json")).out)
    hidden = await desk.backend(WITH_SOCKET, publishes=False)
    grant = ("backend", "grant", hidden.url, "--secret", "API_KEY")
    for options in (("--yes",), ("--like", str(approved))):
        refused = await desk.run(*grant, *options)
        assert refused.status != 0
        assert "its compose file is not published" in refused.err
    file = tmp_path / "compose.yaml"
    file.write_text(PINNED)
    other = await desk.run(*grant, "--yes", "--files", str(file))
    assert other.status == 14
