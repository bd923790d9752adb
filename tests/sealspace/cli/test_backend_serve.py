"""`sealspace backend simulate` and `serve`: an example backend that reads on after a restart."""

import json
import logging
from pathlib import Path

import aiohttp
import pytest
from backend_process import serving
from deviating_platform import SimulatedPlatform
from running_node import running_node

from sealspace.apps.backends import hand_over
from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.wallets import new_wallet
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.trust_root import parse_trust_root


async def _state(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return str((await answer.json())["API_KEY"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["platform", "file"])
async def test_a_backend_that_keeps_its_grants(tmp_path: Path, kind: str) -> None:
    """With a folder the DID and the grants survive a restart, whichever key it uses; without one neither does."""
    assert 0 == main(["backend", "simulate", str(tmp_path / "tee"), "-q"])
    platform = SimulatedPlatform.load(tmp_path / "tee")
    inspector = Inspector(CollateralFolder(tmp_path / "tee" / "collateral"), root=parse_trust_root(platform.root_der))
    with running_node(tmp_path, platform=platform, workers=1) as node:
        keeping = ("--node", node.url, "--keep", "kept", "--key", kind)
        async with Client(node.url) as owner:
            await owner.sign_in(new_wallet())
            await owner.secrets().put("API_KEY", "value")
            with serving(tmp_path, *keeping) as url:
                assert "not granted" == await _state(url)
                seen = await owner.backends.look(url, inspector)
                portable = await owner.backends.grant(seen)
                await hand_over(url, portable)
                read = await _state(url)
                assert read.startswith("read, sha256 ")
            with serving(tmp_path, *keeping) as url:
                assert (seen.did, read) == ((await owner.backends.look(url, inspector)).did, await _state(url))
                await owner.delegations.revoke(portable)
                assert "revoked" in await _state(url)
            with serving(tmp_path, "--node", node.url) as url:
                assert "not granted" == await _state(url)
                assert seen.did != (await owner.backends.look(url, inspector)).did
    assert (kind == "file") == (tmp_path / "kept" / "backend.key").exists()


def test_a_simulated_platform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is made once, and its collateral anew each time; a folder with something else in it is left alone."""
    folder = tmp_path / "tee"
    assert 0 == main(["backend", "simulate", str(folder)])
    made = capsys.readouterr()
    assert "" == made.out and "sealspace serve --trust-root" in made.err
    key = (folder / "root.key").read_bytes()
    assert 0 == main(["backend", "simulate", str(folder), "--json", "-q"])
    again = capsys.readouterr()
    said = json.loads(again.out)
    assert "" == again.err and Path(said["trustRoot"]).is_file() and Path(said["collateral"]).is_dir()
    assert key == (folder / "root.key").read_bytes()
    (folder / "root.key").write_bytes(b"")
    for spoilt in (folder, tmp_path / "file" / "tee"):
        (tmp_path / "file").write_bytes(b"")
        assert 2 == main(["backend", "simulate", str(spoilt)])
        assert "\nnext: name a new folder\n" in capsys.readouterr().err
    assert b"" == (folder / "root.key").read_bytes()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["backend", "serve", "--node", "http://127.0.0.1:1", "--secret", "API_KEY", *arguments])
    said = capsys.readouterr().err
    assert 2 == len(said.splitlines()) and "\nnext: " in said
    return status, said


def test_what_does_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A platform without a key service wants a file; a damaged one, and a folder of another key, are named."""
    status, said = refused(capsys, "--quotes", "tsm", "--keep", str(tmp_path / "kept"))
    assert 2 == status and "--key file" in said
    status, said = refused(capsys, "--simulate", str(tmp_path / "tee"))
    assert 2 == status and f"sealspace backend simulate {tmp_path / 'tee'}" in said
    SimulatedPlatform.from_seed(b"the platform of the commands").save(tmp_path / "tee")
    keeping = ("--simulate", str(tmp_path / "tee"), "--keep", str(tmp_path / "kept"), "--key", "file")
    (tmp_path / "kept").mkdir(mode=0o700)
    (tmp_path / "kept" / "backend.key").touch(mode=0o600)
    status, said = refused(capsys, *keeping)
    assert 10 == status and "backend.key is empty" in said
    (tmp_path / "kept" / "backend.key").unlink()
    (tmp_path / "kept" / "backend.json").write_text(json.dumps({"v": 1, "did": "did:key:z6MkA", "networks": []}))
    (tmp_path / "kept" / "backend.json").chmod(0o600)
    status, said = refused(capsys, *keeping)
    assert 1 == status and "was made by did:key:z6MkA" in said
    assert logging.NOTSET == logging.getLogger("aiohttp").level  # the process's own logs stay as they were
