"""Tests of `backend measure`, and of `backend show` and `backend grant` with files."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from backend_site import Domain, serving
from deviating_log import mint_event_log
from deviating_platform import SimulatedPlatform
from made_firmware import expected_mrtd
from published_folder import COMPOSE, PublishedFolder, boot_events, replayed
from strange_files import REASONS, replaced

from capabilities.clock_and_entropy import SystemClock
from encryption_network.policy import Measurements, parse_policy
from sealspace.cli.root import main
from sealspace.session import key_session
from tee_backend.backend.publishing import BackendSurface
from tee_backend.measuring.measuring_errors import MeasurementRefused

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run a command of an owner without a login."""
    monkeypatch.setenv("SEALSPACE_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(arguments))
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


@pytest.mark.parametrize("name", ["app-compose.json", "quote.json", "firmware.fd"])
@pytest.mark.parametrize("kind", REASONS)
def test_files_of_a_stranger(
    published: PublishedFolder, machine: SimulatedPlatform, command: Command, name: str, kind: str
) -> None:
    """A folder with a pipe, a device, a link to nothing, a folder or a file of 100 MB in the place
    of a file is refused at once, with the next step (AT65)."""
    folder = published.write(machine)
    replaced(folder / name, kind)
    status, out, err = command("backend", "measure", str(folder))
    assert (status, out) == (12, "")
    assert "next: " in err
    # firmware is read to its limit; what is longer has no table
    assert REASONS[kind] in err or (name == "firmware.fd" and kind == "long")


def test_the_list_and_the_policy(
    published: PublishedFolder, machine: SimulatedPlatform, command: Command
) -> None:
    """The command prints each value with its source, and the policy to approve as JSON (AT66)."""
    folder = published.write(machine)
    status, out, err = command("backend", "measure", str(folder))
    assert status == 0, err
    assert "images published at docker.io/acme" in out
    assert re.search(r"^MRTD +[0-9a-f]{96}\n +computed: firmware.fd", out, re.MULTILINE)
    assert re.search(r"^RTMR0 +[0-9a-f]{96}\n +replayed: 2 entries", out, re.MULTILINE)
    assert "sources        3 computed, 5 replayed" in out
    assert "signatures were not verified here" in out
    status, out, _ = command("--json", "backend", "measure", str(folder))
    assert status == 0
    assert parse_policy(json.loads(out)["policy"]).is_allow_list


def test_a_part_that_is_not_known(
    published: PublishedFolder, machine: SimulatedPlatform, command: Command
) -> None:
    """A value that no file explains is named, with status 17, and --like refuses the output
    (AT66)."""
    folder = published.write(machine)
    (folder / "firmware.fd").unlink()
    status, out, err = command("--json", "backend", "measure", str(folder))
    assert status == 17
    assert "MRTD" in err.splitlines()[0]
    saved = folder.parent / "approved.json"
    saved.write_text(out)
    status, _, err = command("backend", "show", "http://127.0.0.1:1", "--like", str(saved))
    assert status == 2 and "neither output of" in err


def test_refusals_have_a_status(
    published: PublishedFolder, machine: SimulatedPlatform, command: Command
) -> None:
    """Files of another application end with status 12, and the next step."""
    folder = replace(published, logged_compose=b"other").write(machine)
    status, out, err = command("backend", "measure", str(folder))
    assert (status, out) == (12, "")
    assert [line.partition(":")[0] for line in err.splitlines()] == ["sealspace", "next"]
    assert MeasurementRefused.code == "measurement-refused"


@pytest.mark.parametrize(
    "options",
    [
        ("--app-id", "00"),
        ("--app-id", "xy" * 20),
        ("--app-id", ""),
        ("--instance-id", "00"),
        ("--key-provider", "none"),
        ("--key-provider", "kms:XY"),
        ("--storage", "x" * 65),
    ],
)
def test_wrong_options(
    published: PublishedFolder,
    machine: SimulatedPlatform,
    command: Command,
    options: tuple[str, str],
) -> None:
    """A value of the wrong form is refused before a file is read."""
    folder = published.write(machine)
    (folder / "app-compose.json").write_text("unreadable")
    status, _, err = command("backend", "measure", str(folder), *options)
    assert status in (1, 2) and options[0] in err


def _trust(machine: SimulatedPlatform, folder: Path) -> tuple[str, ...]:
    """Write the simulated machine's root and collateral, and return the options for them."""
    (folder / "root.pem").write_text(machine.root_pem)
    (folder / "collateral").mkdir()
    document = machine.collateral_json(SystemClock.now())
    (folder / "collateral" / "platform.json").write_bytes(document)
    return ("--trust-root", str(folder / "root.pem"), "--collateral", str(folder / "collateral"))


def _surface(machine: SimulatedPlatform, compose: bytes) -> BackendSurface:
    """Return a backend on the machine of the published folder, with its compose file."""
    boot = boot_events()
    image = Measurements(
        mrtd=expected_mrtd(one_pass=False),
        rtmr0=replayed(boot, 0),
        rtmr1=replayed(boot, 1),
        rtmr2=replayed(boot, 2),
    )
    domain = Domain(machine, image, mint_event_log(hashlib.sha256(compose).digest()))
    manifest = {
        "app_id": "com.example.notes",
        "name": "Notes",
        "defaults": False,
        "secrets": {"API_KEY": True},
    }
    did = str(key_session(bytes(range(32))).did)
    return BackendSurface(domain, did=did, manifest=manifest, compose=compose.decode())


async def test_a_running_backend_beside_its_files(
    published: PublishedFolder,
    machine: SimulatedPlatform,
    command: Command,
    tmp_path: Path,
) -> None:
    """`show --files` prints the comparison, and a backend with other code ends with status 14."""
    folder = published.write(machine)
    trust = _trust(machine, tmp_path)
    async with serving(_surface(machine, COMPOSE)) as url:
        show = ("backend", "show", url, *trust)
        status, out, err = await asyncio.to_thread(command, *show, "--files", str(folder))
        assert status == 0, err
        assert "mrtd           same (computed)" in out
        assert "rtmr3          not compared (replayed)" in out
        assert "approved       nothing yet" in out
        of_unknown_image = "a compose hash proves nothing on an unknown image"
        assert of_unknown_image not in out  # what was just compared is not warned of
        _, out, _ = await asyncio.to_thread(command, *show)
        assert of_unknown_image in out
        assert 'the application "notes", which runs 1 image published at docker.io/acme' in out
    other = COMPOSE.replace(b'"notes"', b'"other"', 1)
    async with serving(_surface(machine, other)) as url:
        status, out, err = await asyncio.to_thread(
            command, "backend", "show", url, *trust, "--files", str(folder)
        )
        assert (status, out) == (14, "")
        assert "composeHash, appId differ" in err
        assert "mrtd           same (computed)" in err
