"""Tests that a command reaches each exit status, with a two-line message."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from backend_site import Domain, serving
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from patience import PATIENCE_S
from running_node import COMMAND
from tests_support import OUR_IMPORTS, Input
from trust_settings import trust_files

from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import Principal
from encryption_network.policy import REGISTERS
from node.config.tree import Config, Http, Release, Store
from runner.calls.identity import begin, manifest_of
from runner.calls.run_receipts import RunFacts, sign_receipt
from sealspace.cli.exit_status import EXIT_STATUSES, WRONG_ARGUMENT
from sealspace.cli.lazy import EXTRAS
from sealspace.cli.root import main
from sealspace.service import clock_check
from sealspace.session import iso_time
from spaces.store.contract import Commit, Put
from spaces.store.lmdb.engine import open_lmdb
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import measurements_of

NOBODY = "http://127.0.0.1:1"
OWNER = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"


class Machine:
    """A machine with a folder, on which commands are run in this process."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, platform: SimulatedPlatform
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.monkeypatch = monkeypatch
        self.platform = platform

    def run(self, *arguments: str, given: str = "") -> int:
        self.monkeypatch.setattr(sys, "stdin", Input(given))
        return main(["--home", str(self.folder / "home"), *arguments])

    def config(self, **release: str) -> Config:
        return Config(
            http=Http(port=0, drain_s=0),
            store=Store(data=str(self.data)),
            release=Release(**release),  # type: ignore[arg-type]  # by name
        )

    def started(self, **release: str) -> None:
        """Start and stop a node on the data folder."""

        async def once() -> None:
            async with embedded_node(self.config(**release)):
                pass

        asyncio.run(once())

    def at_a_node(self, *commands: tuple[str, ...]) -> int:
        """Log in at a node, run commands, and return the last command's status."""

        async def there() -> int:
            async with embedded_node(self.config()) as node:
                status = await asyncio.to_thread(self.run, "login", node.url, "--new")
                for command in commands:
                    assert status == 0
                    status = await asyncio.to_thread(self.run, *command, given="value")
                return status

        return asyncio.run(there())

    def at_a_backend(self, *arguments: str, collateral: bool = True) -> int:
        """Inspect a backend in a simulated trust domain."""
        root, documents = trust_files(self.folder, self.platform)
        if not collateral:
            (Path(documents) / "platform.json").unlink()

        async def there() -> int:
            surface = BackendSurface(
                Domain(self.platform, measurements_of("image")),
                did=OWNER,
                manifest={
                    "app_id": "com.example",
                    "name": "Notes",
                    "defaults": False,
                    "secrets": {"API_KEY": True},
                },
            )
            trust = ("--trust-root", root, "--collateral", documents)
            async with serving(surface) as url:
                return await asyncio.to_thread(self.run, "backend", "show", url, *trust, *arguments)

        return asyncio.run(there())


def _done(machine: Machine) -> int:
    return machine.run("version")


def _failed(machine: Machine) -> int:
    return machine.at_a_node(
        ("secret", "put", "A"), ("secret", "export", "--out", str(machine.folder / "no" / "file"))
    )


def _wrong_argument(machine: Machine) -> int:
    return machine.run("secret", "lisst")


def _foreign_distribution(machine: Machine) -> int:
    stranger = machine.folder / "site" / "stranger-1.0.dist-info"
    stranger.mkdir(parents=True)
    (stranger / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (stranger / "top_level.txt").write_text("spaces\n")
    machine.monkeypatch.syspath_prepend(stranger.parent)
    return machine.run("serve", "--data", str(machine.data), "--port", "0")


def _secret_unusable(machine: Machine) -> int:
    machine.data.mkdir()
    (machine.data / "secret").write_bytes(bytes(32))
    (machine.data / "secret").chmod(0o644)
    return machine.run("serve", "--data", str(machine.data), "--port", "0")


def _store_misused(machine: Machine) -> int:
    return machine.run("admin", "release", "show", "--data", str(machine.data))


def _release_loosened(machine: Machine) -> int:
    machine.started(attestation="everyone")
    return machine.run(
        "serve",
        "--data",
        str(machine.data),
        "--port",
        "0",
        "--workers",
        "1",
        "--attestation",
        "off",
    )


def _collateral_refused(machine: Machine) -> int:
    (machine.folder / "document.json").write_text("{}")
    return machine.run("verify", NOBODY, "--collateral", str(machine.folder))


def _store_unavailable(machine: Machine) -> int:
    async def beside_a_node() -> int:
        async with embedded_node(machine.config()):
            listed = ("admin", "owners", "list", "--data", str(machine.data))
            return await asyncio.to_thread(machine.run, *listed)

    return asyncio.run(beside_a_node())


def _store_full(machine: Machine) -> int:
    machine.started()

    async def fill() -> None:
        """Fill the store beyond its later limit and beyond the reserve for small commits."""
        store = open_lmdb(machine.data)
        for number in range(20):
            rows = (Put(b"K%d.%d" % (number, row), bytes(60_000)) for row in range(30))
            await store.commit(Commit(puts=tuple(rows)))
        await store.close()

    asyncio.run(fill())
    machine.monkeypatch.setenv("SEALSPACE_STORE__MAX_BYTES", str(1 << 20))
    return machine.run("admin", "owners", "add", OWNER, "--data", str(machine.data))


def _not_signed_in(machine: Machine) -> int:
    return machine.run("secret", "list")


def _unreachable(machine: Machine) -> int:
    return machine.run("login", NOBODY, "--new")


def _refuted(machine: Machine) -> int:
    receipt = machine.folder / "receipt.json"
    receipt.write_text("{}")
    return machine.run(
        "verify", str(receipt), "--evidence", str(machine.folder), "--node-did", OWNER
    )


def _refused(machine: Machine) -> int:
    return machine.at_a_node(("secret", "put", "A"), ("secret", "put", "A", "--if-absent"))


def _collateral_needed(machine: Machine) -> int:
    return machine.at_a_backend(collateral=False)


def _another_code(machine: Machine) -> int:
    return machine.at_a_backend("--expect", "00" * 48)


def _clock_wrong(machine: Machine) -> int:
    made_at = clock_check.MADE_AT + 100 * 365 * 86_400
    machine.monkeypatch.setattr(clock_check, "MADE_AT", made_at)
    return machine.run("serve", "--data", str(machine.data), "--port", "0")


def _partly_checked(machine: Machine) -> int:
    """Verify the receipt of a run without its input and output (RN253)."""
    root, documents = trust_files(machine.folder, machine.platform)
    measurements = measurements_of("image")
    manifest = manifest_of(Principal(OWNER), "Runner")
    domain = Domain(machine.platform, measurements)
    identity = asyncio.run(begin(domain, did=Principal(OWNER), manifest=manifest, compose=None))
    facts = RunFacts(
        job="0" * 32,
        program="0" * 64,
        project=None,
        code=None,
        input_hash="x",
        output_hash="x",
        variables_hash="x",
        secrets="none",
        storage="none",
        hosts=[],
        limits={},
        instructions=0,
        time_ms=0,
        nonce=None,
        at=iso_time(SystemClock.now()),
        task=False,
        build=None,
    )
    receipt = sign_receipt(
        facts, runner=Principal(OWNER), start=identity.start_hash, key=identity.receipt_key
    )
    kept = machine.folder / "run.json"
    kept.write_bytes(b'{"receipt": %s, "start": %s}' % (receipt, identity.start))
    trust = ("--trust-root", root, "--collateral", documents)
    expected = [f"--expect={getattr(measurements, name).hex()}" for name in REGISTERS]
    return machine.run("verify", str(kept), *trust, *expected)


def _missing_extra(machine: Machine) -> int:
    machine.monkeypatch.setattr(
        "sealspace.cli.lazy.EXTRAS", {**EXTRAS, "node": ("no_such_module",)}
    )
    return machine.run("serve")


def _not_found(machine: Machine) -> int:
    return machine.at_a_node(("secret", "get", "ABSENT"))


def _incomplete(machine: Machine) -> int:
    """Ask who can read a secret, with more grants than are read."""
    machine.monkeypatch.setattr("sealspace.giving.access.MOST_GRANTS", 0)
    return machine.at_a_node(("secret", "put", "A"), ("secret", "show", "A"))


def _denied(machine: Machine) -> int:
    return machine.at_a_node(
        ("kv", "put", "a", "--space", f"tinycloud:{OWNER.removeprefix('did:')}:notes")
    )


def _not_executable(machine: Machine) -> int:
    (machine.folder / "plain").write_text("no program")
    return machine.at_a_node(
        ("run", "--allow-empty", "--no-masking", "--", str(machine.folder / "plain"))
    )


def _no_such_command(machine: Machine) -> int:
    return machine.at_a_node(("run", "--allow-empty", "--no-masking", "--", "no-such-command"))


def _interrupted(machine: Machine) -> int:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    machine.monkeypatch.setattr("sealspace.cli.who.login.owner_home", interrupted)
    return machine.run("whoami")


REACHED: Mapping[int, Callable[[Machine], int]] = {
    0: _done,
    1: _failed,
    2: _wrong_argument,
    3: _foreign_distribution,
    4: _secret_unusable,
    5: _store_misused,
    6: _release_loosened,
    7: _collateral_refused,
    8: _store_unavailable,
    9: _store_full,
    10: _not_signed_in,
    11: _unreachable,
    12: _refuted,
    13: _collateral_needed,
    14: _another_code,
    15: _refused,
    16: _clock_wrong,
    17: _partly_checked,
    18: _incomplete,
    20: _missing_extra,
    21: _not_found,
    22: _denied,
    126: _not_executable,
    127: _no_such_command,
    130: _interrupted,
}


@pytest.mark.parametrize("number", REACHED)
def test_each_exit_status(
    number: int,
    tmp_path: Path,
    platform: SimulatedPlatform,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A failing command ends with its status and two lines: what happened, and what to do next."""
    for name in [name for name in os.environ if name.startswith("SEALSPACE_")]:
        monkeypatch.delenv(name)
    machine = Machine(tmp_path, monkeypatch, platform)
    assert REACHED[number](machine) == number
    said = capsys.readouterr()
    if number == 0:
        assert said.err == ""
        return
    what, following = said.err.splitlines()[-2:]
    assert re.match(r"sealspace: [^A-Z]", what) and not what.endswith("."), said
    assert re.match(r"next: \S.{3}", following), said


@pytest.mark.parametrize(
    "command",
    [
        "secret put A --file ABSENT",
        "secret import ABSENT",
        "template ABSENT",
        "kv put a --file ABSENT",
        "grant accept ABSENT",
        "grant create did:key:z --secret A --policy ABSENT",
        "manifest check ABSENT",
        "manifest explain ABSENT",
        "manifest grant ABSENT",
        "network policy --set ABSENT",
        "login --key-file ABSENT",
        "login --keystore ABSENT",
        "login --require-node-evidence --node-policy ABSENT",
        "login --trust-root ABSENT",
        "backend show URL --like ABSENT",
        "runner serve --data DIR --compose ABSENT",
        "verify ABSENT --node-did DID",
        "verify . --node-did DID",
        "verify URL --policy ABSENT",
        "admin collateral import ABSENT",
        "admin release set --node-policy ABSENT",
    ],
)
def test_a_named_file_that_cannot_be_read(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every command with an unreadable file fails with status 2 before it does anything, and says
    how to name the file."""
    absent = str(tmp_path / "absent")
    assert (
        main([*command.replace("ABSENT", absent).split(), "--home", str(tmp_path / "home")])
        == WRONG_ARGUMENT
        == 2
    )
    what, following = capsys.readouterr().err.splitlines()
    named = absent if "ABSENT" in command else "."
    assert what.startswith(f"sealspace: cannot read {named}: "), what
    step = "name a file in it: ./FILE" if named == "." else "check the name and the folder (now in "
    assert following.startswith(f"next: {step}") or "--new" in following
    assert not (tmp_path / "home").exists()


def test_every_exit_status_is_reached() -> None:
    """Every exit status has a command in this module that ends with it."""
    assert set(EXIT_STATUSES) == set(REACHED)


def test_the_process_ends_with_the_status(tmp_path: Path) -> None:
    """The process ends with the status that `main` returns."""
    command = [*COMMAND, "secret", "list", "--home", str(tmp_path)]
    environment = {"PATH": os.environ["PATH"], **OUR_IMPORTS, "HOME": str(tmp_path)}
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE_S
    )
    assert (ended.returncode, ended.stdout) == (10, "")
    assert len(ended.stderr.splitlines()) == 2
