"""Tests of the node's command line: messages, exit statuses, and effects of each command."""

import asyncio
import json
import platform
import re
import socket
from importlib import import_module
from pathlib import Path

import click
import pytest
from command_tree import command_tree
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from tests_support import FixedClock

from capabilities.signatures import WalletSigner
from node.config.tree import Config, Http, Release, Store
from sealspace import __version__
from sealspace.cli.exit_status import EXIT_STATUSES
from sealspace.cli.root import COMMANDS, EXIT_STATUS, main
from sealspace.cli.shared import is_shared
from sealspace.client import Client
from sealspace.errors import SealspaceError
from sealspace.service.command_errors import NodeError
from spaces.space_errors import SpaceError


async def _started(folder: Path, **release: str) -> None:
    """Start a node on a folder once, so that it contains a store."""
    config = Config(store=Store(data=str(folder)), release=Release(**release))  # type: ignore[arg-type]  # by name
    config = Config(
        http=type(config.http)(port=0, drain_s=0), store=config.store, release=config.release
    )
    async with embedded_node(config):
        pass


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data folder on which a node ran."""
    await _started(tmp_path / "data")
    return tmp_path / "data"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version goes to standard output."""
    assert main(["version"]) == 0
    assert (f"{__version__}\n", "") == capsys.readouterr()
    assert main(["--version"]) == 0


def test_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json`, the version of Python and the installed extras are included."""
    assert main(["version", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["version"] == __version__
    assert shown["python"] == platform.python_version()
    assert {"node", "verify"} <= set(shown["extras"])


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Help names every command and imports none of them."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command and group can be imported, and describes itself and its options."""
    nodes = list(command_tree())
    for node in nodes:
        assert main([*node.words, "--help"]) == 0, node.words
        assert f"Usage: sealspace {' '.join(node.words)} " in capsys.readouterr().out
    assert main(["secret", "put", "-h"]) == 0
    options = [
        (node.words, one)
        for node in nodes
        for one in node.command.params
        if isinstance(one, click.Option)
    ]
    assert [words for words, one in options if not one.help] == []
    assert len(options) > 100


def test_every_code_with_an_exit_status_is_an_error() -> None:
    """The table of exit statuses names existing error codes only, each once."""
    assert list(command_tree())  # imports them, and with them the errors of most packages
    import_module("tee_backend.measuring.measuring_errors")  # imported when its command runs
    families: list[type[NodeError | SealspaceError | SpaceError]] = [
        NodeError,
        SealspaceError,
        SpaceError,
    ]
    for family in families:
        families += family.__subclasses__()
    assert EXIT_STATUS.keys() <= {family.code for family in families}
    assert len(EXIT_STATUS) == sum(len(codes) for _, *codes in EXIT_STATUSES.values())


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command ends with status 2 and a message on standard error."""
    assert main(["nothing"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["serve", "--config", "absent.toml"], "configuration-invalid"),
        (["serve", "--host", "0.0.0.0"], "configuration-invalid"),
        (
            ["serve", "--host", "203.0.113.1", "--port", "1", "--config", "open.toml"],
            "configuration-invalid",
        ),
        (["admin", "release", "show", "--data", "absent"], "store-misused"),
        (["admin", "collateral", "import", "--data", "absent", "x.json"], "file-unreadable"),
    ],
)
def test_errors_are_two_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: str,
) -> None:
    """An error prints what happened and the next step; its code determines the exit status."""
    monkeypatch.chdir(tmp_path)
    Path("open.toml").write_text("[http]\nplain_text_off_loopback = true\n")
    assert EXIT_STATUS[code] == main(arguments)
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    assert second[:6] == "next: "
    assert re.match(r"sealspace: [a-z]", first) and not first.endswith(".")


@pytest.mark.parametrize(
    "arguments",
    [["admin", "release", "set"], ["admin", "release", "set", "--trust-root", "x", "--intel-root"]],
)
def test_usage_errors(arguments: list[str]) -> None:
    """Missing or contradictory options end with status 2."""
    assert main(arguments) == 2


def test_release_show(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The release record is printed as one JSON object."""
    assert main(["admin", "release", "show", "--data", str(data)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {
        "attestation": "delegates",
        "trustRoots": ["intel"],
        "nodePolicy": None,
        "nodePolicySuffices": False,
        "keyProviders": ["kms", "tpm"],
    }


def test_release_set(
    data: Path, tmp_path: Path, other_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Setting terms changes only the named ones, and a later show prints the new record."""
    policy = tmp_path / "policy.json"
    policy.write_text('{"mode": "everyone"}')
    set_all = [
        "admin",
        "release",
        "set",
        "--data",
        str(data),
        "--attestation",
        "off",
        "--trust-root",
        str(other_root),
    ]
    assert main(set_all) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["attestation"] == "off"
    assert len(said["trustRoots"][0]) == 64
    assert said["nodePolicy"] is None
    assert (
        main(
            [
                "admin",
                "release",
                "set",
                "--data",
                str(data),
                "--intel-root",
                "--node-policy-suffices",
            ]
        )
        == 0
    )
    assert main(["admin", "release", "show", "--data", str(data)]) == 0
    *_, shown = capsys.readouterr().out.splitlines()
    release = json.loads(shown)
    assert release["attestation"] == "off"
    assert release["trustRoots"] == ["intel"]
    assert release["nodePolicySuffices"] is True


def test_release_set_names_key_providers(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command sets or removes key providers, and an invalid provider changes nothing (RL16)."""

    def reported(*options: str) -> object:
        assert main(["admin", "release", "set", "--data", str(data), *options]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])["keyProviders"]

    assert reported("--key-provider", "tpm", "--key-provider", "kms:0a") == ["kms:0a", "tpm"]
    for wrong in (
        ["--key-provider", "local-sgx"],
        [part for n in range(17) for part in ("--key-provider", f"tpm:{n:02x}")],
    ):
        assert (
            main(["admin", "release", "set", "--data", str(data), *wrong])
            == EXIT_STATUS["configuration-invalid"]
        )
    assert (
        main(
            [
                "admin",
                "release",
                "set",
                "--data",
                str(data),
                "--key-provider",
                "tpm",
                "--no-key-provider",
            ]
        )
        == 2
    )
    assert reported("--attestation", "everyone") == ["kms:0a", "tpm"]
    assert reported("--no-key-provider") == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"unknown member": 1}'])
def test_release_set_refuses_a_bad_policy(data: Path, tmp_path: Path, text: str) -> None:
    """An invalid policy file changes nothing."""
    policy = tmp_path / "policy.json"
    policy.write_text(text)
    arguments = ["admin", "release", "set", "--data", str(data), "--node-policy", str(policy)]
    assert EXIT_STATUS["configuration-invalid"] == main(arguments)


async def test_release_set_is_audited(data: Path) -> None:
    """A change of the release record leaves an audit record with the new terms."""
    import asyncio

    from audit_records import audit_records

    from spaces.store.lmdb.engine import open_lmdb

    assert (
        await asyncio.to_thread(
            main, ["admin", "release", "set", "--data", str(data), "--attestation", "everyone"]
        )
        == 0
    )
    store = open_lmdb(data)
    try:
        (record,) = await audit_records(store)
    finally:
        await store.close()
    assert record.action == "release.set"
    assert record.actor == "operator"
    assert json.loads(record.detail)["attestation"] == "everyone"


def test_collateral_import(
    data: Path,
    tmp_path: Path,
    other_root: Path,
    platform: SimulatedPlatform,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each imported document is printed as a JSON object; a refused one is an error."""
    import time

    path = tmp_path / "a.json"
    path.write_bytes(platform.collateral_json(time.time()))
    refused = main(["admin", "collateral", "import", "--data", str(data), str(path)])
    assert EXIT_STATUS["collateral-refused"] == refused  # Intel's root is trusted, not this one
    assert (
        main(["admin", "release", "set", "--data", str(data), "--trust-root", str(other_root)]) == 0
    )
    capsys.readouterr()
    assert (
        main(
            [
                "admin",
                "collateral",
                "import",
                "--data",
                str(data),
                "--trust-root",
                str(other_root),
                str(path),
                "--json",
            ]
        )
        == 0
    )
    (said,) = json.loads(capsys.readouterr().out)
    assert {"fmspc": platform.fmspc.hex(), "ca": "platform"}.items() <= said.items()


def test_doctor_is_content(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor finds nothing wrong with a used or a missing data folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:  # another program may have the usual port
        monkeypatch.setenv("SEALSPACE_HTTP__PORT", str(free.getsockname()[1]))
    assert main(["doctor", "--data", str(data)]) == 0
    assert "belongs to did:key:z6Mk" in capsys.readouterr().out
    assert main(["doctor", "--data", str(data.with_name("new"))]) == 0


def test_doctor_finds_another_secret(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The doctor reports a secret of another store, with a next step."""
    (data / "secret").write_bytes(bytes(32))
    assert main(["doctor", "--data", str(data)]) == 1
    shown = capsys.readouterr().out
    assert "wrong    store" in shown and "next: " in shown


def test_doctor_finds_a_lost_secret(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The doctor reports a missing secret and creates none."""
    (data / "secret").unlink()
    assert main(["doctor", "--data", str(data)]) == 1
    assert "wrong" in capsys.readouterr().out and not (data / "secret").exists()


def test_serve_options_are_settings() -> None:
    """Every option of `serve` names an existing setting."""
    from node.cli.serve import serve
    from node.config.tree import setting_types

    names = {one.name for one in serve.params if not is_shared(one)} - {"config_file"}
    assert {name.replace("__", ".") for name in names if name} <= setting_types().keys()


async def test_the_usage_of_spaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`admin quota` alone prints the spaces with their usage, the largest first."""
    clock, data = FixedClock(1_700_000_000.0), str(tmp_path / "data")
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=data))
    async with embedded_node(config, clock=clock) as node, Client(node.url, clock=clock) as client:
        await client.sign_in(WalletSigner(b"1" * 32))
        await client.kv().put("note", "12345")
        space = client.kv().space.text

    async def printed(*arguments: str) -> tuple[int, str, str]:
        status = await asyncio.to_thread(main, ["admin", "quota", *arguments])
        return status, *capsys.readouterr()

    status, out, _ = await printed("--data", data, "--json")
    (found,) = (one for one in json.loads(out) if one["space"] == space)
    assert status == 0 and found["usedBytes"] == 5 and found["isOwnLimit"] is False
    assert (await printed("set", space, "2KiB", "--data", data))[0] == 0
    _, out, _ = await printed("--data", data)
    assert out.splitlines()[0].split() == [space, "5", "2048"]
    status, out, err = await printed("--data", data, "list")
    assert (status, out) == (2, "") and "write the options after the command" in err
    status, out, err = await printed("--data", str(tmp_path / "nope"))
    assert status == EXIT_STATUS["store-misused"]
    assert err.splitlines()[0] == f"sealspace: the data folder {tmp_path / 'nope'} does not exist"


def test_quota(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command sets or clears a space's own limit, and an invalid space or size changes
    nothing."""
    space = "tinycloud:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266:notes"
    folder = ("--data", str(data))

    def limit(*arguments: str) -> object:
        assert main(["admin", "quota", *arguments, *folder, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert limit("list") == []
    assert limit("set", space, "2KiB") == {
        "space": space,
        "limitBytes": 2048,
        "isOwnLimit": True,
        "usedBytes": None,
        "versionsBytes": 0,
    }
    assert limit("list") == [{"space": space, "limitBytes": 2048}]
    for wrong in (
        ["set", space, "2 KB"],
        ["set", space, "9999999TiB"],
        ["set", "notes", "1"],
        ["show", "notes"],
    ):
        assert main(["admin", "quota", *wrong, *folder]) == EXIT_STATUS["configuration-invalid"]
        assert "next: use the " in capsys.readouterr().err
    public = f"{space.rpartition(':')[0]}:public"
    assert (
        main(["admin", "quota", "set", public, "1", *folder])
        == EXIT_STATUS["configuration-invalid"]
    )
    assert "next: change the setting public_spaces.storage_limit_bytes" in capsys.readouterr().err
    assert limit("show", space) == {
        "space": space,
        "limitBytes": 2048,
        "isOwnLimit": True,
        "usedBytes": None,
        "versionsBytes": 0,
    }
    cleared = limit("clear", space)
    assert isinstance(cleared, dict) and cleared["isOwnLimit"] is False
    assert main(["admin", "quota", "list", *folder]) == 0
    out, err = capsys.readouterr()
    assert out == "" and "next: sealspace admin quota set" in err
