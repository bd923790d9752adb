"""The folder of a backend's grants: complete after any crash, and used by one backend only."""

import errno
import json
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fuzz_strategies import changed_objects, damaged_bytes, json_values
from hypothesis import given
from hypothesis import strategies as st
from tests_support import CountingEntropy, fuzzed

from capabilities.principals import Principal
from encryption_network.pins import NetworkPin
from sealspace.delegations import allow
from sealspace.session import Grant, key_session, mint, read_grant
from tee_backend.backend.grant_folder import GrantFolder, GrantSnapshot
from tee_backend.backend.held_grants import MOST
from tee_backend.backend_errors import FolderDamaged, FolderOfAnother, FolderUnusable, KeepingError

SELF, OTHER, OWNER = (key_session(bytes([number]) * 32) for number in (1, 2, 3))
ENTROPY = CountingEntropy()
PIN = NetworkPin(f"urn:tinycloud:encryption:{OWNER.did}:default", bytes(32), 1)


def grant(number: int = 0, to: Principal = SELF.did) -> Grant:
    """A grant of the owner to a backend."""
    wanted = [allow(PIN.network, "tinycloud.encryption/decrypt")]
    return read_grant(
        mint(
            OWNER.signer,
            ENTROPY,
            audience=to,
            capabilities=wanted,
            proofs=(),
            expires_at=1_900_000_000 + number,
            issuer=OWNER.did,
        )
    )


GRANTS = [grant(number) for number in range(3)]


def opened(path: Path, did: Principal = SELF.did) -> GrantFolder:
    return GrantFolder(path, did)


def holding(
    *grants: Grant, pins: tuple[NetworkPin, ...] = (), read=(), revoked=()
) -> Callable[[], GrantSnapshot]:
    return lambda: GrantSnapshot(grants, pins, frozenset(read), frozenset(revoked))


def kept_in(path: Path) -> list[tuple[str, bool, bool]]:
    """Return the grants that a new process loads from the folder."""
    folder = opened(path)
    folder.close()
    kept = folder.stored
    return [(one.header, one.cid in kept.read, one.cid in kept.revoked) for one in kept.grants]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder with three grants, the last of which is the newest."""
    path = tmp_path / "kept"
    folder = opened(path)
    for count in range(1, 4):
        folder.store(holding(*reversed(GRANTS[:count]), pins=(PIN,)))
    folder.close()
    return path


def file_of(path: Path, one: Grant) -> Path:
    return path / "grants" / f"{one.cid}.json"


def refused(path: Path, kind: type[KeepingError], did: Principal = SELF.did) -> str:
    """Check that one kind of error with a next step refuses the folder; return its text."""
    with pytest.raises(kind) as reported:
        opened(path, did)
    assert type(reported.value) is kind and reported.value.hint and str(path) in str(reported.value)
    assert not any(one.header in str(reported.value) for one in GRANTS)
    return f"{reported.value} {reported.value.hint}"


# --- kept -----------------------------------------------------------------------------------------


def test_what_was_kept_is_there_again(path: Path) -> None:
    """Grants with their order and marks, and network keys, survive a restart, readable by the owner
    only."""
    newest_first = [one.header for one in reversed(GRANTS)]
    assert [(header, False, False) for header in newest_first] == kept_in(path)
    folder = opened(path)
    assert (PIN,) == folder.pins
    folder.store(holding(*reversed(GRANTS), read=[GRANTS[0].cid], revoked=[GRANTS[2].cid]))
    folder.close()
    # Revoked ones are tried last, of whatever age.
    assert [
        (GRANTS[1].header, False, False),
        (GRANTS[0].header, True, False),
        (GRANTS[2].header, False, True),
    ] == kept_in(path)
    modes = {stat.S_IMODE(one.stat().st_mode) for one in path.rglob("*") if one.is_file()}
    assert ({0o600}, 0o700, 0o700) == (
        modes,
        *(stat.S_IMODE(one.stat().st_mode) for one in (path, path / "grants")),
    )


def test_what_is_not_held_any_more_is_removed(path: Path) -> None:
    """The folder contains the files of current grants and no others."""
    folder = opened(path)
    folder.store(holding(GRANTS[1]))
    folder.close()
    assert [GRANTS[1].header] == [header for header, *_ in kept_in(path)]
    assert [file_of(path, GRANTS[1])] == list((path / "grants").iterdir())


def test_only_what_changed_is_written(path: Path) -> None:
    """A new grant does not cause other grants to be written again."""
    before = {one: one.stat().st_mtime_ns for one in (path / "grants").iterdir()}
    folder = opened(path)
    folder.store(holding(grant(7), *reversed(GRANTS), pins=(PIN,)))
    folder.close()
    assert (
        before.items()
        <= {one: one.stat().st_mtime_ns for one in (path / "grants").iterdir()}.items()
    )
    assert 4 == len(kept_in(path))


def test_a_store_takes_what_holds_at_its_turn(path: Path) -> None:
    """A store that waits for its turn writes the state of that time."""
    folder = opened(path)
    asked: list[bool] = []

    def current() -> GrantSnapshot:
        asked.append(True)
        return holding(*GRANTS)()

    folder.store(current)
    folder.close()
    assert [True] == asked


@pytest.mark.parametrize("name", ["backend.json", "grants/x.json"])
def test_a_crash_leaves_the_former_file(path: Path, name: str) -> None:
    """A draft left by a crash is ignored and removed."""
    file = path / name
    draft = file.with_name(f".{file.name}.x.new")
    draft.write_bytes(b'{"v":1')
    before = kept_in(path)
    assert not draft.exists()
    folder = opened(path)
    folder.store(holding(*reversed(GRANTS)))
    folder.close()
    assert 3 == len(before) == len(kept_in(path))


def test_a_draft_that_cannot_be_removed(path: Path) -> None:
    """A folder with an unremovable draft is refused but not left locked."""
    draft = path / ".backend.json.x.new"
    draft.mkdir()
    refused(path, FolderUnusable)
    draft.rmdir()
    assert 3 == len(kept_in(path))


def test_numbers_of_another_party(path: Path) -> None:
    """A stored number near the maximum leaves room for later grants."""
    file = file_of(path, GRANTS[2])
    file.write_bytes(_with(number=2**52 - 1)(file.read_bytes()))
    folder, later = opened(path), [grant(21), grant(22)]
    folder.store(holding(later[0], *folder.stored.grants))
    folder.store(holding(later[1], *folder.stored.grants))
    folder.close()
    assert [one.header for one in (*reversed(later), *reversed(GRANTS))] == [
        header for header, *_ in kept_in(path)
    ]
    assert 5 == max(
        json.loads(file.read_bytes())["number"] for file in (path / "grants").glob("*.json")
    )


@pytest.mark.parametrize("step", range(10))
def test_a_disk_that_fails_anywhere(path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """After a failed write, the next start finds complete files: the old ones or some new ones."""
    calls, sync = 0, os.fsync

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    folder, new = opened(path), [grant(11), grant(12)]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with suppress(FolderUnusable):
            folder.store(
                holding(
                    *new,
                    *reversed(GRANTS),
                    pins=(PIN, replace(PIN, network="b")),
                    read=[GRANTS[0].cid],
                )
            )
    folder.close()
    kept = [header for header, *_ in kept_in(path)]
    assert [one.header for one in reversed(GRANTS)] == kept[-3:] and {*kept} <= {
        one.header for one in new + GRANTS
    }
    assert [] == list((path / "grants").glob("*.unreadable"))
    assert (calls > step) == (step < 8)
    folder = opened(path)
    folder.store(holding(*new, *reversed(GRANTS), pins=(PIN,)))
    folder.close()
    assert 5 == len(kept_in(path))


# --- damaged --------------------------------------------------------------------------------------


def _of_another(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"grant": grant(to=OTHER.did).header}).encode()


def _with(**members: object) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(json.loads(data) | members).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff" * 10,
        lambda data: b" " * 300_000,
        _of_another,
        _with(grant=GRANTS[2].header),
        _with(grant=1),
        _with(grant="no token"),
        _with(v=2),
        _with(number=-1),
        _with(number=True),
        _with(number=10**30),
        _with(wasRead=1),
        _with(more=1),
    ],
    ids=["empty", "cut", "no text", "too long", "another DID", "another grant", "no header",
         "no token", "version", "number below", "number of a kind", "number above", "mark",
         "unknown member"],
)  # fmt: skip
def test_a_damaged_grant_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture, damage) -> None:
    """A damaged grant is renamed and logged with the next step; the others stay usable (AT58)."""
    victim = file_of(path, GRANTS[0])
    damaged = damage(victim.read_bytes())
    victim.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert [GRANTS[2].header, GRANTS[1].header] == [header for header, *_ in kept_in(path)]
    aside = victim.with_suffix(".unreadable")
    assert damaged == aside.read_bytes() and not victim.exists()
    (said,) = caplog.messages
    assert str(aside) in said and "next: " in said and GRANTS[0].header not in said


@pytest.mark.parametrize("kind", ["open to others", "a link", "a pipe", "a folder"])
def test_what_is_no_file_is_set_aside(path: Path, tmp_path: Path, kind: str) -> None:
    """A link is not followed and a pipe does not block; both are set aside."""
    victim = file_of(path, GRANTS[0])
    data = victim.read_bytes()
    if kind == "open to others":
        victim.chmod(0o644)
    else:
        victim.unlink()
    if kind == "a link":
        (tmp_path / "elsewhere").write_bytes(data)
        victim.symlink_to(tmp_path / "elsewhere")
    elif kind == "a pipe":
        os.mkfifo(victim, 0o600)
    elif kind == "a folder":
        victim.mkdir()
    assert 2 == len(kept_in(path))
    assert victim.with_suffix(".unreadable") in set((path / "grants").iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"[]"),
        lambda file: file.write_bytes(_with(v=2)(file.read_bytes())),
        lambda file: file.write_bytes(_with(networks=[{}])(file.read_bytes())),
        lambda file: file.write_bytes(_with(did=None)(file.read_bytes())),
        lambda file: file.write_bytes(b" " * 2_000_000),
        lambda file: file.unlink(),
        lambda file: file.chmod(0o666),
    ],
    ids=[
        "empty",
        "no object",
        "version",
        "pins",
        "no did",
        "too long",
        "missing",
        "open to others",
    ],
)
def test_a_damaged_state_stops_the_start(path: Path, damage) -> None:
    """A damaged or missing state file stops the start, so that pinned keys are not forgotten
    (AT58)."""
    file = path / "backend.json"
    damage(file)
    left = file.read_bytes() if file.exists() else None
    assert "backend.json" in refused(path, FolderDamaged)
    assert left == (file.read_bytes() if file.exists() else None)


def test_more_grants_than_a_backend_holds(path: Path) -> None:
    """Too many grants are refused before any of them is read."""
    for number in range(MOST):
        (path / "grants" / f"{number}.json").touch()
    assert str(MOST) in refused(path, FolderDamaged)
    assert MOST + 3 == len(list((path / "grants").glob("*.json")))


@fuzzed()
@given(st.data())
def test_fuzz_kept_files(data: st.DataObject) -> None:
    """Files of arbitrary bytes are read as written, set aside, or refused with an error of this
    package."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "kept"
        kept = opened(path)
        kept.store(holding(*GRANTS, pins=(PIN,)))
        kept.close()
        for file in (path / "backend.json", file_of(path, GRANTS[0])):
            written = file.read_bytes()
            values = json_values(1, GRANTS[0].header, OTHER.did)
            changed = changed_objects(json.loads(written), values).map(
                lambda value: json.dumps(value).encode()
            )
            file.write_bytes(data.draw(st.binary(max_size=100) | damaged_bytes(written) | changed))
        with suppress(KeepingError):
            found = opened(path)
            found.close()
            cids = [one.cid for one in GRANTS]
            assert {*cids[1:]} <= {one.cid for one in found.stored.grants} <= {*cids}


# --- whose ----------------------------------------------------------------------------------------


def test_the_folder_of_another_key(path: Path) -> None:
    """A folder of another DID is refused; the message names both DIDs and the next step."""
    said = refused(path, FolderOfAnother, OTHER.did)
    assert SELF.did in said and OTHER.did in said
    assert 3 == len(kept_in(path))


def test_one_process_at_a_time(path: Path) -> None:
    """A second backend on the folder is refused until the first one closes it."""
    folder = opened(path)
    assert "another process" in refused(path, FolderUnusable)
    folder.close()
    folder.close()
    with pytest.raises(FolderUnusable) as left:
        folder.store(holding())
    assert left.value.hint
    assert 3 == len(kept_in(path))


@pytest.mark.parametrize("which", ["", "grants"])
@pytest.mark.parametrize("mode", [0o750, 0o707])
def test_a_folder_that_is_open_to_others(path: Path, which: str, mode: int) -> None:
    """A folder that other users can read or write is refused."""
    (path / which).chmod(mode)
    assert "chmod 700" in refused(path, FolderUnusable)


def test_no_folder_can_be_made(tmp_path: Path) -> None:
    """A file in place of the folder is an error that says what to look at."""
    (tmp_path / "kept").write_bytes(b"")
    assert "ls -ld" in refused(tmp_path / "kept", FolderUnusable)


def test_a_folder_that_cannot_be_written(path: Path) -> None:
    """A failed write keeps the earlier state, and the error says what to look at."""
    folder = opened(path)
    (path / "grants").rename(path / "moved")
    with pytest.raises(FolderUnusable) as full:
        folder.store(holding(grant(9), *GRANTS))
    assert "df " in full.value.hint
    folder.close()
    (path / "moved").rename(path / "grants")
    assert 3 == len(kept_in(path))
