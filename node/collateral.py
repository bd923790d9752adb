"""Taking in collateral: what Intel says about its platforms, one document for each platform family and authority.

A document is verified against the trust root in force before it is kept, and never replaces a newer one.

Example:
    imported = await import_collateral(store, data, root=root, clock=clock, source="a.json")
"""

from dataclasses import dataclass
from pathlib import Path

from capabilities.ambient import Clock
from spaces.errors import StoreBusy
from spaces.evidence import collateral_row_key
from spaces.store.contract import ABSENT, Commit, Put, Refused, Store
from tee_backend.attestation.collateral import (
    MAX_COLLATERAL_BYTES,
    CollateralFile,
    check_not_older,
    parse_collateral,
    parse_collateral_file,
)
from tee_backend.attestation.collateral_trust import verify_collateral
from tee_backend.attestation.errors import AttestationError, CollateralOutsideWindow, CollateralRollback
from tee_backend.attestation.trust_root import TrustRoot

from .errors import CollateralRefused
from .logs import log_warning

_TRIES = 3


@dataclass(frozen=True, slots=True)
class ImportedCollateral:
    """What was taken in.

    Attributes:
        fmspc: platform family, 6 bytes.
        ca: `platform` or `processor`.
        ends_at: epoch seconds after which it judges nothing any more.
    """

    fmspc: bytes
    ca: str
    ends_at: float


async def import_collateral(
    store: Store, data: bytes, *, root: TrustRoot, clock: Clock, source: str
) -> ImportedCollateral:
    """Verify one document and keep it.

    Args:
        store: where to.
        data: JSON, see `tee_backend.attestation.collateral`.
        root: the trust root; claim_store saw that the release record names it.
        clock: documents outside their window are refused.
        source: named in messages, for example a file name.

    Raises:
        CollateralRefused: malformed, unsigned, outside its window, of another root, or older than what is held.
        SpaceError: the store does not take it.
    """
    try:
        offered = parse_collateral_file(data)
        verify_collateral(offered.collateral, root=root, now=clock.now())
        await _keep(store, offered)
    except AttestationError as error:
        raise CollateralRefused(
            f"the collateral {source} is refused: {error.code}: {error.detail}",
            hint="fetch a fresh document for the platform family, then import it again",
        ) from error
    return ImportedCollateral(offered.fmspc, offered.ca, offered.collateral.ends_at)


async def _keep(store: Store, offered: CollateralFile) -> None:
    """Write a document unless a newer one is there, whoever else imports at the same time."""
    key = collateral_row_key(offered.fmspc, offered.ca)
    for _ in range(_TRIES):
        held = (await store.read((key,))).records[0]
        if held is not None and held.value is not None:
            check_not_older(offered.collateral, parse_collateral(held.value))
        put = Put(key, offered.raw, expect=ABSENT if held is None else held.stamp)
        if not isinstance(await store.commit(Commit(puts=(put,))), Refused):
            return
    raise StoreBusy("others import collateral for the same platforms")


async def import_folder(store: Store, folder: Path, *, root: TrustRoot, clock: Clock) -> int:
    """Take in every JSON file of a folder, by name, and return how many there were.

    A document that is outdated, or older than the one held, is passed over: a folder that was filled once must not keep
    a node from starting.

    Raises:
        CollateralRefused: the folder or a file is unreadable, or a document is refused for another reason than age.
    """
    paths = _documents(folder)
    for path in paths:
        try:
            await import_collateral(store, read_collateral_file(path), root=root, clock=clock, source=str(path))
        except CollateralRefused as error:
            if not isinstance(error.__cause__, CollateralOutsideWindow | CollateralRollback):
                raise
            log_warning("collateral-passed-over", file=path.name, code=error.__cause__.code)
    return len(paths)


def _documents(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CollateralRefused(f"there is no folder {folder}", hint=f"mkdir {folder}, or unset release.collateral")
    return sorted(path for path in folder.glob("*.json") if path.is_file())


def read_collateral_file(path: Path) -> bytes:
    """Read one file, at most as much of it as a document may have.

    Raises:
        CollateralRefused: unreadable.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_COLLATERAL_BYTES + 1)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise CollateralRefused(f"cannot read {path}: {reason}", hint=f"ls -l {path}") from None
