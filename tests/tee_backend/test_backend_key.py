"""A backend's own key: the same after each start, from a key service or a key file."""

import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from deviating_platform import SimulatedPlatform
from simulators.agent import AgentSimulator, agent_on
from tests_support import CountingEntropy

from sealspace.session import key_session
from tee_backend.backend.key import KEY_PATH, KeyFile, backend_seed
from tee_backend.backend_errors import KeyUnusable
from tee_backend.evidence.dstack import DstackSource
from tee_backend.evidence.evidence_errors import SourceMalformed, SourceUnavailable
from tee_backend.evidence.simulated import SimulatedSource, measurements_of, mint_event_log
from tee_backend.evidence.source import KeySource


def test_a_file_is_made_once(tmp_path: Path) -> None:
    """The first use makes the file, readable by this user alone; later uses return the same key."""
    path = tmp_path / "new folder" / "backend.key"
    first = backend_seed(KeyFile(path, CountingEntropy(b"first")))
    kept = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (
        first == backend_seed(KeyFile(path, CountingEntropy(b"second")))
        and kept == path.read_bytes()
    )
    assert [path] == list(path.parent.iterdir())
    assert key_session(first).did != key_session(bytes.fromhex(kept.decode())).did
    assert kept.strip().decode() not in repr(KeyFile(path))


def test_each_path_has_a_key_of_its_own(tmp_path: Path) -> None:
    """Keys for different paths are independent."""
    keys = KeyFile(tmp_path / "backend.key")
    assert keys.key("a") != keys.key("b") and 32 == len(keys.key("a"))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"00" * 31, b"00" * 33, b"zz" * 32, b"\xff" * 64, b"0" * 10_000]
)
def test_a_damaged_file_is_never_overwritten(tmp_path: Path, content: bytes) -> None:
    """An empty or damaged key file is an error that names the file and the next step (AT58)."""
    path = tmp_path / "backend.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable) as refused:
        backend_seed(KeyFile(path))
    assert content == path.read_bytes()
    _says_what_to_do(refused.value, path)


def _says_what_to_do(error: KeyUnusable, path: Path) -> None:
    assert "backend-key-unusable" == error.code
    assert error.hint and str(path) in str(error)


@pytest.mark.parametrize("kind", ["open to others", "a link", "a folder", "a pipe", "in no folder"])
def test_what_is_no_file_of_one_s_own(tmp_path: Path, kind: str) -> None:
    """A file that others can read, a link, a folder or a pipe is refused without blocking."""
    path = tmp_path / "backend.key"
    match kind:
        case "open to others":
            path.write_bytes(b"00" * 32)
            path.chmod(0o640)
        case "a link":
            (tmp_path / "elsewhere").write_bytes(b"00" * 32)
            path.symlink_to(tmp_path / "elsewhere")
        case "a folder":
            path.mkdir(0o700)
        case "a pipe":
            os.mkfifo(path, 0o600)
        case _:
            (tmp_path / "no folder").write_bytes(b"")
            path = tmp_path / "no folder" / "backend.key"
    with pytest.raises(KeyUnusable) as refused:
        backend_seed(KeyFile(path))
    _says_what_to_do(refused.value, path)


async def test_two_starts_at_once_make_one_key(tmp_path: Path) -> None:
    """If two processes make the key file at the same time, both use the same key."""

    class Second(CountingEntropy):
        def token(self, size_bytes: int) -> bytes:
            backend_seed(KeyFile(path, CountingEntropy(b"the other process")))
            return super().token(size_bytes)

    path = tmp_path / "backend.key"
    assert backend_seed(KeyFile(path, Second())) == backend_seed(KeyFile(path))


@pytest.mark.parametrize("generation", ["dstack", "tappd"])
async def test_the_key_of_a_key_service(
    tmp_path: Path, machine: SimulatedPlatform, generation: str
) -> None:
    """Guest agents of both generations return the same key for a path."""
    image = replace(measurements_of("image"), rtmr3=None)
    agent = AgentSimulator(machine, image, mint_event_log(bytes(32)))
    async with agent_on(tmp_path / f"{generation}.sock", agent):
        source = DstackSource.find((tmp_path,))
        seeds = {await _in_thread(source) for _ in range(2)}
        agent.seed = b"another application"
        seeds.add(await _in_thread(source))
        assert {"dstack": "GetKey", "tappd": "DeriveK256Key"}[generation] in agent.asked
        assert [2, {32}] == [len(seeds), {len(seed) for seed in seeds}]
        assert await asyncio.to_thread(source.key, KEY_PATH) not in seeds
        agent.key_answer = {"key": "00", "k256_key": "00"}
        with pytest.raises(SourceMalformed, match="next: "):
            await _in_thread(source)
    with pytest.raises(SourceUnavailable, match="next: "):
        await _in_thread(source)


async def _in_thread(source: KeySource) -> bytes:
    return await asyncio.to_thread(backend_seed, source)


def test_the_key_of_a_simulated_domain(machine: SimulatedPlatform) -> None:
    """A simulated key depends on the platform and the code, not on the process."""
    source = SimulatedSource(machine, measurements_of("notes"))
    assert isinstance(source, KeySource)
    again = SimulatedSource(
        SimulatedPlatform.from_seed(b"the platform of the tests"), measurements_of("notes")
    )
    assert backend_seed(source) == backend_seed(again)
    others = (
        SimulatedSource(machine, measurements_of("other")),
        SimulatedSource(machine, mint_event_log(bytes(32)).run_on(measurements_of("notes"))),
        SimulatedSource(SimulatedPlatform.from_seed(b"another platform"), measurements_of("notes")),
    )
    assert 4 == len({backend_seed(one) for one in (source, *others)})
