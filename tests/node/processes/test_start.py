"""Tests of opening a store at the start: identity and release record."""

from pathlib import Path

import pytest
from embedded_node import embedded_node
from tests_support import CountingEntropy, FixedClock

from encryption_network.keyring import Keyring
from encryption_network.release_record import INTEL_ROOT_SHA256, ReleaseRecord
from node.config.tree import Config, Hosting, Http, Release, Store
from node.processes.start import claim_store, hosting_policy, report_restore_wait
from node.release_terms import in_force, loosened, recorded_release
from sealspace.cli.terminal import time_text
from sealspace.service.command_errors import ConfigurationError, ReleaseLoosened, StoreMisused
from sealspace.service.term_files import read_node_policy
from spaces.keyspace import IDENTITY_KEY, RELEASE_RECORD_KEY, REPLAY_FLOOR_KEY, RESTORED_KEY
from spaces.store.contract import Commit, Put
from spaces.store.lmdb.engine import open_lmdb


def _record(**members: object) -> ReleaseRecord:
    return ReleaseRecord(**({"trust_roots": (INTEL_ROOT_SHA256,)} | members))  # type: ignore[arg-type]  # by name


async def _start(
    folder: Path,
    *,
    secret: bytes = bytes(32),
    release: Release | None = None,
    max_bytes: int | None = None,
) -> ReleaseRecord:
    config = Config(store=Store(data=str(folder)), release=release or Release())
    store = open_lmdb(folder, max_bytes=max_bytes)
    try:
        await claim_store(
            config,
            store=store,
            keyring=Keyring(secret),
            clock=FixedClock(),
            entropy=CountingEntropy(),
        )
        record = await recorded_release(store)
        assert record is not None
        return record
    finally:
        await store.close()


async def test_a_store_keeps_its_secret(tmp_path: Path) -> None:
    """A store starts only with the root secret that it was made with."""
    await _start(tmp_path)
    with pytest.raises(StoreMisused) as refused:
        await _start(tmp_path, secret=bytes(31) + b"\1")
    assert "did:key:z6Mko6nD6G5AKtGER7mYjNhxdM5KMi5wb8x2yRfhh99HiSLY" in refused.value.message
    assert "--secret-file" in refused.value.hint
    await _start(tmp_path)


async def test_first_start_writes_the_record(tmp_path: Path) -> None:
    """The first start writes the release record from the configuration; later ones keep it."""
    assert _record(mode="everyone") == await _start(
        tmp_path, release=Release(attestation="everyone")
    )
    assert _record(mode="everyone") == await _start(
        tmp_path, release=Release(attestation="everyone")
    )


@pytest.mark.parametrize(
    ("recorded", "configured", "starts"),
    [
        ("everyone", "everyone", True),
        ("delegates", "everyone", True),
        ("off", "delegates", True),
        ("everyone", "delegates", False),
        ("everyone", "off", False),
        ("delegates", "off", False),
    ],
)
async def test_looser_configuration_is_refused(
    tmp_path: Path, recorded: str, configured: str, starts: bool
) -> None:
    """A stricter mode than the record's starts, a looser one does not, and the record stays."""
    await _start(tmp_path, release=Release(attestation=recorded))  # type: ignore[arg-type]  # a text
    if not starts:
        with pytest.raises(ReleaseLoosened):
            await _start(tmp_path, release=Release(attestation=configured))  # type: ignore[arg-type]  # a text
        return
    assert recorded == (await _start(tmp_path, release=Release(attestation=configured))).mode  # type: ignore[arg-type]  # a text


def test_stricter_of_both_is_in_force() -> None:
    """The node applies the stricter mode of configuration and record."""
    assert in_force(Release(attestation="everyone"), _record()).mode == "everyone"
    assert in_force(Release(attestation="delegates"), _record(mode="off")).mode == "delegates"


def test_node_policy_cannot_be_made_to_suffice() -> None:
    """A configuration cannot make the node's policy replace owners' policies."""
    assert loosened(Release(node_policy_suffices=True), _record()) is not None
    assert loosened(Release(node_policy_suffices=True), _record(node_policy_suffices=True)) is None


def test_another_trust_root_is_looser(tmp_path: Path, other_root: Path) -> None:
    """A configuration with a trust root outside the record is looser, even Intel's."""
    assert loosened(Release(trust_root=str(other_root)), _record()) is not None
    assert loosened(Release(), _record(trust_roots=(bytes(32),))) is not None
    assert loosened(Release(), _record(trust_roots=(bytes(32), INTEL_ROOT_SHA256))) is None


@pytest.mark.parametrize(
    ("recorded", "configured", "starts"),
    [
        (("kms", "tpm"), ("kms", "tpm"), True),
        (("kms", "tpm"), ("tpm", "kms:0a"), True),
        (("kms", "tpm"), (), True),
        (("kms:0a",), ("kms:0a",), True),
        (("kms", "tpm"), ("kms", "local-sgx:0a"), False),
        (("kms:0a",), ("kms",), False),
        (("kms:0a",), ("kms:0b",), False),
        ((), ("tpm",), False),
    ],
)
async def test_further_key_providers_are_looser(
    tmp_path: Path, recorded: tuple[str, ...], configured: tuple[str, ...], starts: bool
) -> None:
    """A configuration with key providers outside the record does not start (RL16, AT29)."""
    assert (
        await _start(tmp_path, release=Release(key_providers=recorded))
    ).key_providers == recorded
    later = Release(key_providers=configured)
    if starts:
        assert (await _start(tmp_path, release=later)).key_providers == recorded
        return
    with pytest.raises(ReleaseLoosened, match="key_providers accepts"):
        await _start(tmp_path, release=later)


@pytest.mark.parametrize(
    ("recorded", "configured", "both"),
    [
        (("kms", "tpm"), ("tpm", "kms"), ("kms", "tpm")),
        (("kms", "tpm"), ("kms:0a",), ("kms:0a",)),
        (("kms:0a", "kms:0b"), ("kms", "tpm"), ("kms:0a", "kms:0b")),
        (("kms:0a",), ("kms:0b",), ()),
        ((), ("kms",), ()),
    ],
)
def test_key_providers_of_both_are_in_force(
    recorded: tuple[str, ...], configured: tuple[str, ...], both: tuple[str, ...]
) -> None:
    """The node accepts only key providers that both the configuration and the record list."""
    assert (
        in_force(Release(key_providers=configured), _record(key_providers=recorded)).key_providers
        == both
    )


async def test_a_root_is_recorded_at_the_first_start(tmp_path: Path, other_root: Path) -> None:
    """The first start records the root's digest, and a later start with another root is refused."""
    release = Release(trust_root=str(other_root))
    record = await _start(tmp_path / "data", release=release)
    (root,) = record.trust_roots
    assert root != INTEL_ROOT_SHA256 and record == await _start(tmp_path / "data", release=release)
    with pytest.raises(ReleaseLoosened):
        await _start(tmp_path / "data")


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAA\n"])
async def test_a_bad_root_is_refused(tmp_path: Path, content: bytes) -> None:
    """A trust root that is not a root certificate prevents the start."""
    path = tmp_path / "root.pem"
    path.write_bytes(content)
    for name in (str(path), str(tmp_path / "absent")):
        with pytest.raises(ConfigurationError):
            await _start(tmp_path / "data", release=Release(trust_root=name))


def test_a_node_policy_is_no_matter_of_configuration(tmp_path: Path) -> None:
    """A node policy in the record does not make every configuration looser."""
    path = tmp_path / "policy.json"
    path.write_text('{"minEvaluationNumber": 20}')
    assert loosened(Release(), _record(node_policy=read_node_policy(path))) is None


def test_listed_owners_are_dids() -> None:
    """A listed owner must be a DID, and is made canonical."""
    with pytest.raises(ConfigurationError):
        hosting_policy(Hosting(mode="permit", listed=("alice",)))
    lower = "did:pkh:eip155:1:0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    policy = hosting_policy(Hosting(mode="permit", listed=(lower,)))
    assert {"did:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"} == policy.listed


async def test_embedded_node_lets_go_of_everything(tmp_path: Path) -> None:
    """A node that failed to start, or has ended, leaves the data folder unlocked."""
    bad = Config(
        store=Store(data=str(tmp_path)), release=Release(collateral=str(tmp_path / "absent"))
    )
    with pytest.raises(Exception, match="does not exist"):
        async with embedded_node(bad):
            raise AssertionError("it started")
    await _start(tmp_path, secret=(tmp_path / "secret").read_bytes())


async def test_a_damaged_record_refuses(tmp_path: Path) -> None:
    """A store with a damaged identity or release record is refused with a message."""
    await _start(tmp_path)
    for key in (RELEASE_RECORD_KEY, IDENTITY_KEY):
        store = open_lmdb(tmp_path)
        await store.commit(Commit(puts=(Put(key, b"damaged"),)))
        await store.close()
        with pytest.raises(StoreMisused, match="cannot be read"):
            await _start(tmp_path)


async def test_a_restored_store_says_from_when_on_it_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a restore the start reports until when tokens are refused, if in the future (BK5)."""
    async with embedded_node(
        Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path)))
    ) as node:
        minute = int(node.services.clock.now()) // 60
        for ahead, said in ((-1, ""), (7, time_text(60 * (minute + 7)))):
            closed = (minute + ahead).to_bytes(4, "big")
            puts = (Put(REPLAY_FLOOR_KEY, closed), Put(RESTORED_KEY, b"/former"))
            await node.services.store.commit(Commit(puts=puts))
            capsys.readouterr()
            await report_restore_wait(node.services)
            lines = capsys.readouterr().err.splitlines()
            assert len(lines) == (1 if said else 0)
            assert said in "".join(lines)
