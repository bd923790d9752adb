"""Tests of the command `sealspace doctor`, which finds likely mistakes and prints a next step."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from backend_site import serving
from embedded_node import EmbeddedNode, embedded_node

from node.cli import doctor
from node.config.tree import Config, Http, Store
from sealspace.cli import machine_checks
from sealspace.cli.diagnosis import Diagnosis
from sealspace.cli.machine_checks import python
from sealspace.cli.root import main
from sealspace.service.command_errors import ConfigurationError
from sealspace.session import load_session


@dataclass
class Patient:
    """A used data folder, an owner's folder, and the doctor's findings about them."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    async def examined(self, *arguments: str) -> dict[str, Diagnosis]:
        """Return the doctor's findings by check, after testing that each problem has a next
        step."""
        self.capsys.readouterr()
        status = await asyncio.to_thread(
            main, ["doctor", *arguments, "--home", str(self.home), "--json"]
        )
        rows = json.loads(self.capsys.readouterr().out)
        found = {
            row["check"]: Diagnosis(row["check"], row["severity"], row["text"], row["next"])
            for row in rows
        }
        assert status == (1 if any(one.severity == "wrong" for one in found.values()) else 0)
        assert all(one.next_step for one in found.values() if one.severity in ("warn", "wrong")), (
            found
        )
        return found

    async def lines(self, *arguments: str) -> list[tuple[str, str]]:
        """Return the check and the text of each problem that the doctor found, in order."""
        self.capsys.readouterr()
        await asyncio.to_thread(main, ["doctor", *arguments, "--home", str(self.home), "--json"])
        rows = json.loads(self.capsys.readouterr().out)
        return [(row["check"], row["text"]) for row in rows if row["severity"] == "wrong"]

    async def complains(self, about: str, *arguments: str) -> Diagnosis:
        """Return the only problem that the doctor found."""
        found = await self.examined(*arguments)
        assert [name for name, one in found.items() if one.severity == "wrong"] == [about], found
        return found[about]

    async def complains_of_data(self, about: str) -> Diagnosis:
        return await self.complains(about, "--data", str(self.data))


@pytest.fixture
async def patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Patient:
    """A healthy installation."""
    monkeypatch.setenv("SEALSPACE_HTTP__PORT", "0")
    monkeypatch.chdir(tmp_path)
    async with embedded_node(
        Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path / "data")))
    ):
        pass
    (tmp_path / "data").chmod(0o700)
    return Patient(tmp_path, capsys)


async def test_nothing_is_wrong(patient: Patient) -> None:
    """A used node without a login has no problems, in the output for people too."""
    found = await patient.examined("--data", str(patient.data))
    assert {one.severity for one in found.values()} == {"ok", "missing"}
    assert list(found) == ["python", "clock", "settings", "disk", "store", "login"]
    assert found["login"].text == f"the folder {patient.home} does not exist"
    assert await asyncio.to_thread(main, ["doctor", "--home", str(patient.home)]) == 0
    lines = patient.capsys.readouterr().out.splitlines()
    kinds = ("ok       ", "skipped  settings: ", "missing  login: ", "         next: ")
    assert [line for line in lines if not line.startswith(kinds)] == []


async def test_no_node_is_named(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without data and settings of a node, the machine and the login are checked."""
    monkeypatch.delenv("SEALSPACE_HTTP__PORT")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = await patient.examined()
    assert found.keys() == {"python", "clock", "settings", "login"}
    assert "--data DIR" in found["settings"].next_step
    assert list((tmp_path / "elsewhere").iterdir()) == []


# --- the machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(3, 10), (3, 16)])
def test_another_python(version: tuple[int, int]) -> None:
    """A Python that is too old or too new is reported, with how to get an environment."""
    with pytest.raises(ConfigurationError) as refused:
        python(version)
    assert f"{version[0]}.{version[1]}" in refused.value.message and "-m venv" in refused.value.hint


# --- a node ---------------------------------------------------------------------------------------


async def test_a_typo_in_the_settings(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown setting is reported with its source; checks that need settings are skipped."""
    monkeypatch.setenv("SEALSPACE_HTTP__PROT", "1")
    assert "SEALSPACE_HTTP__PROT" in (await patient.complains_of_data("settings")).text


async def test_all_faults_are_listed_at_once(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each faulty setting, and each problem of the disk and the store, has a line of its own."""
    monkeypatch.setenv("SEALSPACE_HTTP__PROT", "1")
    monkeypatch.setenv("SEALSPACE_LOG__LEVEL", "loud")
    settings = patient.folder / "node.toml"
    settings.write_text('[http]\nworkers = "x"\n[nothing]\nx = 1\n[admin]\nsecret = "hidden"\n')
    options = ("--config", str(settings), "--data", str(patient.data))
    texts = [text for name, text in await patient.lines(*options) if name == "settings"]
    for named in ("http.prot", "log.level", "http.workers", "nothing.x", "admin.secret"):
        assert sum(named in text.partition(";")[0] for text in texts) == 1, texts
    assert len(texts) == 5 and "hidden" not in f"{texts}"
    patient.data.chmod(0o777)
    # The folder is known without the settings.
    assert (await patient.lines(*options))[-1][0] == "disk"
    patient.data.chmod(0o700)
    settings.write_text('[metrics]\nlisten = "1.2.3.4:1"\n[log]\nrequests = "plain"\n')
    monkeypatch.delenv("SEALSPACE_HTTP__PROT")
    monkeypatch.setenv("SEALSPACE_LOG__LEVEL", "error")
    texts = [text for name, text in await patient.lines(*options) if name == "settings"]
    assert len(texts) == 2 and "metrics.listen" in texts[0] and "log.requests" in texts[1]
    monkeypatch.delenv("SEALSPACE_LOG__LEVEL")
    usage = shutil.disk_usage(patient.data)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
    patient.data.chmod(0o777)
    (patient.data / "secret").unlink()
    lines = await patient.lines("--data", str(patient.data))
    assert [name for name, _ in lines] == ["disk", "disk", "store"]


@pytest.mark.parametrize(
    ("mode", "what"), [(0o777, "other users may write"), (0o720, "other users may write")]
)
async def test_the_data_folder_is_open(patient: Patient, mode: int, what: str) -> None:
    """A data folder that other users may write to is reported."""
    patient.data.chmod(mode)
    found = await patient.complains_of_data("disk")
    assert what in found.text
    assert found.next_step == f"chmod go-w {patient.data}"


async def test_no_file_can_be_made(patient: Patient) -> None:
    """A folder in which no file can be created is reported."""
    found = await patient.complains("disk", "--data", "/proc/self/data")
    assert "cannot create a file in /proc/self" in found.text


async def test_the_disk_is_full(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little free disk space is reported."""
    usage = shutil.disk_usage(patient.data)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
    found = await patient.complains_of_data("disk")
    assert f"the disk of {patient.data} is nearly full: 0 MiB are free; below 8 MiB" in found.text
    assert "free space on that disk" in found.next_step


async def test_the_root_secret(patient: Patient) -> None:
    """A root secret that others can read, that is wrong, or missing is reported; none is
    created."""
    secret = patient.data / "secret"
    secret.chmod(0o644)
    assert (
        f"other users can access the secret file {secret}"
        in (await patient.complains_of_data("store")).text
    )
    secret.chmod(0o600)
    secret.write_bytes(bytes(32))
    assert "but the root secret to did:key:" in (await patient.complains_of_data("store")).text
    secret.unlink()
    assert "the store's root secret is missing" in (await patient.complains_of_data("store")).text
    assert not secret.exists()


async def test_the_database_is_unreachable(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that does not answer is reported without its address."""
    pytest.importorskip("asyncpg")
    monkeypatch.setenv(
        "SEALSPACE_STORE__URL", "postgresql://node:pass-of-the-database@127.0.0.1:1/none"
    )
    found = await patient.examined("--data", str(patient.data))
    assert found["store"].severity == "wrong"
    assert "cannot be examined" in found["store"].text
    assert not any("pass-of" in one.text + one.next_step for one in found.values())


# --- an owner -------------------------------------------------------------------------------------


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[EmbeddedNode]:
    """A running node of another operator."""
    async with embedded_node(
        Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path / "there")))
    ) as node:
        yield node


@pytest.fixture
async def owner(patient: Patient, node: EmbeddedNode) -> Patient:
    """An owner who is logged in at that node."""
    assert (
        await asyncio.to_thread(main, ["login", node.url, "--new", "--home", str(patient.home)])
        == 0
    )
    return patient


async def test_a_login_is_well(owner: Patient) -> None:
    """A valid login and its node have no problems."""
    found = await owner.examined()
    assert list(found) == ["python", "clock", "settings", "disk", "store", "node", "login"]
    assert ", until 20" in found["login"].text
    assert {one.severity for one in found.values()} == {"ok"}


async def test_a_named_node_is_checked_without_the_login(
    owner: Patient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a named node, problems of the user's login are reported only on request."""
    (owner.home / "profile.json").write_text("{")
    monkeypatch.setenv("SEALSPACE_HOME", str(owner.home))
    assert await asyncio.to_thread(main, ["doctor", "--data", str(owner.data)]) == 0
    assert "skipped  login: " in capsys.readouterr().out
    await owner.complains("login", "--data", str(owner.data))


@pytest.mark.parametrize(
    ("change", "about", "what"),
    [
        (lambda owner: (owner.home / "wallet.key").chmod(0o644), "login", "other users"),
        (lambda owner: (owner.home / "wallet.key").unlink(), "login", "cannot read"),
        (
            lambda owner: (owner.home / "wallet.key").write_text("01" * 32),
            "login",
            "but ",
        ),
        (lambda owner: (owner.home / "profile.json").write_text("{"), "login", "cannot be read"),
        (lambda owner: owner.home.chmod(0o777), "login", "other users"),
    ],
    ids=["open-key", "no-key", "another-key", "broken-login", "open-folder"],
)
async def test_the_owner_s_files(
    owner: Patient, change: Callable[[Patient], object], about: str, what: str
) -> None:
    """Each problem with an owner's files is reported with the file."""
    change(owner)
    assert what in (await owner.complains(about)).text


class InAWeek:
    """A clock that is more than a week ahead."""

    @staticmethod
    def now() -> float:
        return time.time() + 8 * 86_400


async def test_the_session_has_ended(
    owner: Patient, node: EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expired session is reported with its end and how to log in again."""
    monkeypatch.setattr(doctor, "SystemClock", InAWeek)
    found = await owner.examined()
    assert found["login"].severity == "wrong"
    assert found["login"].next_step == f"sealspace login {node.url}"
    assert "the session ended at 20" in found["login"].text


async def test_several_problems_of_a_login(owner: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost key and an ended session are both listed, and so are several problems of a node."""
    for module in (doctor, machine_checks):
        monkeypatch.setattr(module, "SystemClock", InAWeek)
    (owner.home / "wallet.key").unlink()
    other = Config(http=Http(port=0, drain_s=0), store=Store(data=str(owner.folder / "other")))
    async with embedded_node(other) as node:
        lines = await owner.lines("--node", node.url)
    assert [name for name, _ in lines] == ["node", "node", "login", "login"]
    parts = ("is another node than", "ahead of the node's", "cannot read the", "the session ended")
    for (_, text), part in zip(lines, parts, strict=True):
        assert part in text


async def test_the_node_is_unreachable(owner: Patient) -> None:
    """A server that does not answer, or not like a node, is reported with its address."""
    found = await owner.complains("node", "--node", "http://127.0.0.1:1")
    assert found.text == "no connection to http://127.0.0.1:1"

    async def no_node(_: web.Request) -> web.Response:
        return web.Response(text="welcome")

    async with serving(no_node) as url:
        assert (
            await owner.complains("node", "--node", url)
        ).text == f"{url} is not a sealspace node"


async def test_a_password_in_an_address_is_not_printed(owner: Patient) -> None:
    """The output contains no password, since users pass it on to others."""
    found = await owner.complains("node", "--node", "http://me:open-sesame@127.0.0.1:1")
    assert "credentials" in found.text and "sesame" not in f"{found}"


async def test_another_node_answers(owner: Patient) -> None:
    """A node other than at the login is reported with both DIDs."""
    other = Config(http=Http(port=0, drain_s=0), store=Store(data=str(owner.folder / "other")))
    async with embedded_node(other) as node:
        found = await owner.complains("node", "--node", node.url)
    assert found.text.startswith(f"{node.url} is another node than at the login: did:key:")


async def test_the_clocks_are_apart(owner: Patient) -> None:
    """A clock that differs from the node's by minutes is reported."""
    session = load_session(owner.home / "session.json")

    async def info(_: web.Request) -> web.Response:
        return web.json_response(
            {"nodeId": session.node_id}, headers={"Date": "Mon, 01 Jan 2035 00:00:00 GMT"}
        )

    async with serving(info) as url:
        assert "s behind the node's" in (await owner.complains("node", "--node", url)).text
