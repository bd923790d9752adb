"""The simulated platform: reproducible, persistent, and independent of other platforms."""

import stat
from pathlib import Path

import pytest
from deviating_platform import CollateralOptions, SimulatedPlatform
from quote_verification import verify_quote

from encryption_network.policy import Measurements
from tee_backend.attestation.attestation_errors import CollateralUnusable, QuoteRefused
from tee_backend.attestation.collateral import parse_collateral
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.trust_root import TrustRoot
from tee_backend.evidence.simulated import PlatformFolderError, measurements_of


def test_a_seed_is_a_platform(
    machine: SimulatedPlatform, code: Measurements, quote: bytes, document: bytes
) -> None:
    """The same seed gives the same root, quotes and collateral."""
    again = SimulatedPlatform.from_seed(b"the platform of the tests")
    assert machine.root_der == again.root_der
    assert machine.root_pem == again.root_pem
    assert quote == again.mint_quote(code, bytes(range(64)))
    assert document == again.collateral_json(1_795_000_000.0)
    assert (
        machine.root_der != SimulatedPlatform.from_seed(b"a platform under another root").root_der
    )


def test_saved_and_loaded(
    machine: SimulatedPlatform,
    quote: bytes,
    code: Measurements,
    root: TrustRoot,
    tmp_path: Path,
    now: float,
) -> None:
    """A saved platform can be loaded; its keys are private to their owner, and its quotes still
    pass."""
    folder = tmp_path / "platform"
    machine.save(folder)
    loaded = SimulatedPlatform.load(folder)
    assert machine.root_der == loaded.root_der
    assert machine.fmspc == loaded.fmspc
    assert quote == loaded.mint_quote(code, bytes(range(64)))
    keys = list(folder.glob("*.key"))
    assert len(keys) == 5
    assert {0o600} == {stat.S_IMODE(key.stat().st_mode) for key in keys}
    assert (folder / "root-ca.pem").read_text() == machine.root_pem
    collateral = parse_collateral(loaded.collateral_json(now))
    assert verify_quote(quote, collateral, root=root, now=now).tcb_status == "UpToDate"


def test_saving_again_keeps_the_mode(machine: SimulatedPlatform, tmp_path: Path) -> None:
    """Saving a second time changes nothing."""
    machine.save(tmp_path)
    machine.save(tmp_path)
    assert SimulatedPlatform.load(tmp_path).root_der == machine.root_der


@pytest.mark.parametrize("name", ["root.key", "pck.key", "pck-chain.pem"])
def test_broken_folder(machine: SimulatedPlatform, tmp_path: Path, name: str) -> None:
    """A folder with a missing, unreadable or foreign file is refused."""
    machine.save(tmp_path)
    other = tmp_path / "other"
    SimulatedPlatform.from_seed(b"a platform under another root").save(other)
    good = (tmp_path / name).read_bytes()
    for content in (
        b"",
        b"junk",
        good[:-40],
        (other / name).read_bytes(),
        (other / "root-ca.pem").read_bytes(),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PlatformFolderError):
            SimulatedPlatform.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(PlatformFolderError):
        SimulatedPlatform.load(tmp_path)


def test_key_of_another_curve(machine: SimulatedPlatform, tmp_path: Path) -> None:
    """A key that is not P-256 is refused."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    machine.save(tmp_path)
    key = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "attestation.key").write_bytes(key)
    with pytest.raises(PlatformFolderError):
        SimulatedPlatform.load(tmp_path)


def test_families(code: Measurements) -> None:
    """Quotes name the platform's family, whichever it is."""
    other = SimulatedPlatform.from_seed(
        b"the platform of the tests", fmspc=b"\x00\xa0\x6f\x05\x00\x00"
    )
    assert (
        parse_quote(other.mint_quote(code, bytes(64))).platform.fmspc == b"\x00\xa0\x6f\x05\x00\x00"
    )


def test_measurements_of_code() -> None:
    """Equal names have equal measurements; different names differ in every register."""
    one, two = measurements_of("one"), measurements_of("two")
    assert one == measurements_of("one")
    assert not {one.mrtd, one.rtmr0, one.rtmr1, one.rtmr2, one.rtmr3} & {
        two.mrtd,
        two.rtmr0,
        two.rtmr1,
        two.rtmr2,
        two.rtmr3,
    }


def test_mistakes_of_the_calling_code(machine: SimulatedPlatform, code: Measurements) -> None:
    """Seeds, families and fields of the wrong size raise ValueError."""
    for make in (
        lambda: SimulatedPlatform.from_seed(b"short"),
        lambda: SimulatedPlatform.from_seed(b"the platform of the tests", fmspc=b"\x00"),
        lambda: machine.mint_quote(code, bytes(63)),
    ):
        with pytest.raises(ValueError, match=r"size|FMSPC"):
            make()


@pytest.mark.parametrize("fmspc", [None, b"others"])
def test_another_machine_under_one_root(
    machine: SimulatedPlatform,
    code: Measurements,
    quote: bytes,
    root: TrustRoot,
    now: float,
    fmspc: bytes | None,
) -> None:
    """A second machine shares root and authorities, and has its own keys and platform id."""
    second = machine.another_machine(b"the second machine", fmspc=fmspc)
    other = second.mint_quote(code, bytes(range(64)))
    assert machine.root_der == second.root_der
    assert (fmspc or machine.fmspc) == second.fmspc
    first_quote, second_quote = parse_quote(quote), parse_quote(other)
    assert first_quote.pck_chain[1:] == second_quote.pck_chain[1:]
    assert first_quote.platform.ppid != second_quote.platform.ppid
    assert first_quote.attestation_key != second_quote.attestation_key
    collateral = parse_collateral(second.collateral_json(now))
    assert "UpToDate" == verify_quote(other, collateral, root=root, now=now).tcb_status
    if fmspc is None:
        assert "UpToDate" == verify_quote(quote, collateral, root=root, now=now).tcb_status
    else:
        with pytest.raises(CollateralUnusable, match=r"^collateral-mismatch$"):
            verify_quote(quote, collateral, root=root, now=now)


def test_one_machine_is_revoked(
    machine: SimulatedPlatform, code: Measurements, root: TrustRoot, now: float
) -> None:
    """Revoking one machine does not affect another of its family."""
    second = machine.another_machine(b"the second machine")
    document = second.collateral_json(now, options=CollateralOptions(revoked=("pck",)))
    collateral = parse_collateral(document)
    verify_quote(machine.mint_quote(code, bytes(64)), collateral, root=root, now=now)
    with pytest.raises(QuoteRefused, match=r"^revoked$"):
        verify_quote(second.mint_quote(code, bytes(64)), collateral, root=root, now=now)


def test_where_machines_are_kept(machine: SimulatedPlatform, tmp_path: Path) -> None:
    """A second machine of the family can be saved and loaded."""
    second = machine.another_machine(b"the second machine")
    second.save(tmp_path)
    assert second.pck_chain_pem == SimulatedPlatform.load(tmp_path).pck_chain_pem
    for seed, fmspc in ((b"short", None), (b"long enough a seed", b"five5")):
        with pytest.raises(ValueError, match="16"):
            machine.another_machine(seed, fmspc=fmspc)
