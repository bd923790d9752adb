"""Tests of `attest record` and `attest replay`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from strange_files import REASONS, replaced

from sealspace.cli.root import main

DEBUG_AT = 168  # the first byte of the attributes of the trust domain, in a quote of version 4
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run a command in an empty folder with a simulated machine `tee`."""
    monkeypatch.setenv("SEALSPACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(arguments))
        output = capsys.readouterr()
        return status, output.out, output.err

    assert run("backend", "simulate", "tee")[0] == 0
    return run


TRUST = ("--trust-root", "tee/root-ca.pem")
RECORD = ("attest", "record", "proof", "--simulate", "tee", "--collateral", "tee/collateral")


def test_the_story(command: Command) -> None:
    """A simulated machine is recorded, and judged again under the root that the reader names
    (AT68, AT69)."""
    status, out, err = command(*RECORD, *TRUST, "--yes")
    assert status == 0, err
    assert "PPID" in err and "instance id in the event log" in err
    assert "accepted" in out
    status, out, _ = command("attest", "replay", "proof", *TRUST)
    assert status == 0
    assert "as recorded" in out and "not covered" in out
    status, out, _ = command("--json", "attest", "replay", "proof", *TRUST)
    assert json.loads(out)["reproduced"] is True


def test_a_root_that_is_not_named(command: Command) -> None:
    """Under Intel's root, the verdict on a simulated machine is not reproduced, with the next
    step."""
    command(*RECORD, *TRUST, "--yes")
    status, out, err = command("attest", "replay", "proof")
    assert status == 1
    assert "untrusted-root" in out and "--trust-root" in err.splitlines()[-1]


def test_a_changed_file(command: Command, tmp_path: Path) -> None:
    """A changed file ends with status 12."""
    command(*RECORD, *TRUST, "--yes")
    quote = tmp_path / "proof" / "quote.bin"
    quote.write_bytes(quote.read_bytes()[:-1] + b"\x01")
    status, out, err = command("attest", "replay", "proof", *TRUST)
    assert (status, out) == (12, "")
    assert "quote.bin was changed" in err


@pytest.mark.parametrize("name", ["quote.bin", "collateral.json", "event-log.json", "record.json"])
@pytest.mark.parametrize("kind", REASONS)
def test_files_of_a_stranger(command: Command, tmp_path: Path, name: str, kind: str) -> None:
    """A record with a pipe, a device, a link to nothing, a folder or a file of 100 MB is refused at
    once, by the file's name (AT70)."""
    command(*RECORD, *TRUST, "--yes")
    replaced(tmp_path / "proof" / name, kind)
    status, out, err = command("attest", "replay", "proof", *TRUST)
    assert (status, out) == (12, "")
    assert name in err and REASONS[kind] in err and "next: " in err


@pytest.mark.parametrize("kind", REASONS)
def test_an_answer_of_a_stranger(command: Command, tmp_path: Path, kind: str) -> None:
    """A kept answer that is no regular file, or too long, is refused before anything is written."""
    replaced(tmp_path / "answer", kind)
    status, out, err = command("attest", "record", "proof", "--answer", "answer", *TRUST, "--yes")
    assert status in (2, 12) and out == ""
    assert REASONS[kind] in err and "next: " in err
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "folder"])
def test_collateral_of_a_stranger(command: Command, tmp_path: Path, kind: str) -> None:
    """A folder of collateral with anything but readable files is refused, by the file's name."""
    replaced(tmp_path / "tee" / "collateral" / "a.json", kind)
    status, out, err = command(*RECORD, *TRUST, "--yes")
    assert (status, out) == (13, "")
    assert "a.json" in err and REASONS[kind] in err and "next: " in err


def test_a_record_of_a_refused_quote(command: Command, tmp_path: Path) -> None:
    """A quote that is refused is recorded with its verdict; the status is 1, with the next step."""
    status, _, err = command(*RECORD, *TRUST, "--yes")
    assert status == 0, err
    quote = bytearray((tmp_path / "proof" / "quote.bin").read_bytes())
    quote[DEBUG_AT] |= 1
    (tmp_path / "answer").write_text(json.dumps({"quote": quote.hex()}))
    kept = ("--answer", "answer", "--collateral", "tee/collateral")
    status, out, err = command("attest", "record", "debug", *kept, *TRUST, "--yes")
    assert status == 1 and "refused: quote (td-attributes)" in out
    assert "next: do not grant secrets to this machine" in err


def test_nothing_is_kept_without_an_answer(command: Command, tmp_path: Path) -> None:
    """Without a terminal and --yes nothing is written, because a record identifies the machine
    (AT69)."""
    status, _, err = command(*RECORD, *TRUST)
    assert status != 0 and "cannot ask for confirmation" in err
    assert not (tmp_path / "proof").exists()


def test_an_existing_folder(command: Command, tmp_path: Path) -> None:
    """An existing folder is not written to."""
    (tmp_path / "proof").mkdir()
    status, _, err = command(*RECORD, *TRUST, "--yes")
    assert status == 2 and "already exists" in err


def test_a_machine_without_a_trust_domain(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine, both sources say what is missing."""
    for kind in ("dstack", "tsm"):
        status, _, err = command("attest", "record", "proof", "--source", kind, "--yes")
        assert status == 2
        assert "returned no quote" in err and "next:" in err
