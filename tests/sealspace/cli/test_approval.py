"""Tests of what an owner sees of a backend's code before approving it."""

import json

from backend_desk import COMPOSE_HASH, Desk

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
    digests is a warning."""
    await desk.log_in()
    pinned = await desk.backend(PINNED)
    shown = await desk.run("backend", "show", pinned.url)
    assert "code           images published at ghcr.io/acme" in shown.out
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
    assert "warning: the hash of the published compose file does not name all code" in shown.out
    described = await desk.run("backend", "show", unpinned.url, "--json")
    assert json.loads(described.out)["code"] is None


async def test_a_question_is_asked_after_the_changes(desk: Desk) -> None:
    """The confirmation of a grant shows the same lines before the question."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    backend = await desk.backend(PINNED)
    asked = await desk.run("backend", "grant", backend.url, typed="no\n")
    assert "approved       nothing yet" in asked.out
    assert "images published at ghcr.io/acme" in asked.out
