"""Attacks on the recovery of an owner's key: a node that records requests, and former shares."""

import base64
import json
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web
from owner_desk import OwnerDesk, owner_desk
from relay import relay_before

from sealspace.documents.recovery_sheets import parse_sheet


async def _split(desk: OwnerDesk, folder: Path, *more: str) -> list[str]:
    """Split the owner's key, and return the paths of the files by the numbers of their shares."""
    ran = await desk.run("recovery", "create", "--out", str(folder), *more)
    assert ran.status == 0, ran
    return sorted(str(path) for path in folder.iterdir())


async def test_RV12_a_node_gets_no_share_and_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request of a recovery contains words of a share, the key or the passphrase."""
    passphrase = tmp_path / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text("open sesame, says the owner\n")
    locked = ("--passphrase-file", str(passphrase))
    sent: list[bytes] = []

    async def record(request: web.Request) -> None:
        heads = "\n".join(f"{name}: {text}" for name, text in request.headers.items())
        sent.append(f"{request.method} {request.path_qs}\n{heads}\n".encode())
        sent.append(await request.read())

    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        files = await _split(desk, tmp_path / "shares", *locked)
        async with relay_before(desk.node) as relay:
            relay.hold = record
            named = ("--node", relay.url, "--home", str(tmp_path / "new"))
            ran = await desk.run("recovery", "use", *files[:3], *locked, *named)
            assert ran.status == 0, ran
    recorded = b"\n".join(sent)
    # What is encoded in a token is compared as it was before.
    for part in recorded.replace(b".", b"\n").split():
        padded = part + b"=" * (-len(part) % 4)
        with suppress(ValueError):
            recorded += b"\n" + base64.urlsafe_b64decode(padded)
    assert b"POST /delegate" in recorded and b"eip191" in recorded  # the sign-in was decoded
    key = bytes.fromhex((desk.home / "wallet.key").read_text().strip())
    forms = [
        key,
        key.hex().encode(),
        base64.b64encode(key)[:-2],
        base64.urlsafe_b64encode(key)[:-2],
    ]
    forms.append(b"open sesame, says")
    for path in files:
        words = parse_sheet(Path(path).read_bytes()).share.words
        forms += [f"{words[at]} {words[at + 1]}".encode() for at in range(0, 32, 2)]
    assert [form for form in forms if form in recorded] == []


async def test_RV15_a_former_set_still_gives_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new set does not end the one before; the command says so."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        former = await _split(desk, tmp_path / "former")
        ran = await desk.run("recovery", "create", "--out", str(tmp_path / "newer"))
        assert "shares that were made before still give the key, too" in ran.err
        home = tmp_path / "thief"
        ran = await desk.run("recovery", "use", *former[2:], home=home)
        assert ran.status == 0, ran
        profiles = [json.loads((one / "profile.json").read_text()) for one in (home, desk.home)]
        assert profiles[0]["owner"] == profiles[1]["owner"]
