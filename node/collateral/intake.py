"""Importing collateral: what Intel publishes about its platforms, one document per platform family
and authority.

A document is verified against the trust root in force before it is stored, and never replaces a
newer one. Its origin, when it was found to be the newest, and the result of the last attempt to
fetch it are stored beside it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from capabilities.clock_and_entropy import Clock
from sealspace.cli.command_errors import CollateralRefused
from spaces.documents.collateral_rows import (
    CollateralState,
    Family,
    collateral_documents,
    collateral_states,
    state_of,
    state_put,
)
from spaces.keyspace import collateral_key, collateral_state_key
from spaces.space_errors import StoreBusy
from spaces.store.contract import Check, Commit, Put, Refused, Store, stamp_of
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.collateral import (
    Collateral,
    parse_collateral,
)
from tee_backend.attestation.collateral_trust import check_replaces, verify_collateral
from tee_backend.attestation.refresh import DEFAULT_RULES, RefreshRules, due_at
from tee_backend.attestation.trust_root import TrustRoot
from tee_backend.cli.trust_files import read_collateral_file

from ..logs import log_warning

IMPORTED: Final = "import"
"""Source of documents that an operator brought."""
_TRIES = 3


async def import_collateral(
    store: Store,
    data: bytes,
    *,
    root: TrustRoot,
    clock: Clock,
    source: str,
    rules: RefreshRules = DEFAULT_RULES,
) -> Collateral:
    """Verify one document that an operator supplied, and store it."""
    try:
        offered = parse_collateral(data)
        verify_collateral(offered, root=root, now=clock.now())
        await keep_collateral(store, offered, source=IMPORTED, now=clock.now(), rules=rules)
    except AttestationError as error:
        raise CollateralRefused(
            f"the collateral {source} is refused: {error.code}: {error.detail}",
            hint="fetch a fresh document for the platform family, then import it again",
        ) from error
    return offered


async def keep_collateral(
    store: Store,
    offered: Collateral,
    *,
    source: str,
    now: float,
    rules: RefreshRules = DEFAULT_RULES,
    beside: Sequence[Put] = (),
) -> bool:
    """Write a verified document unless a newer one exists, also when another process writes at the
    same time (AT19).

    Args:
        store: where it is stored.
        offered: verified.
        source: where it came from: IMPORTED, or the service's name.
        now: epoch seconds.
        rules: when it is due again.
        beside: what else is written with a document that differs from the stored one.
    Returns:
        Whether it differs from the one that was stored.
    Raises:
        CollateralUnusable: `collateral-rollback`, it is older than the stored one.
        CollateralUnusable: `collateral-signature`, its PCK list is not by the authority that the
            stored one carries.
        CollateralUnusable: the stored one cannot be read.
        SpaceError: the store does not accept it.
    """
    family = (offered.fmspc, offered.ca)
    keys = collateral_key(*family), collateral_state_key(*family)
    for _ in range(_TRIES):
        held, noted = (await store.read(keys)).records
        is_new = held is None or held.value != offered.raw
        known = state_of(noted)
        state = CollateralState(
            source=source if is_new or known is None or known.is_wish else known.source,
            refreshed_at=now,
            tried_at=now,
            due_at=due_at(offered, refreshed_at=now, tried_at=now, rules=rules),
        )
        if held is not None and held.value is not None and is_new:
            check_replaces(offered, parse_collateral(held.value))
        # A document that is already stored stays untouched: sessions under way depend on its row.
        put = Put(keys[0], offered.raw, expect=stamp_of(held))
        checks = () if is_new or held is None else (Check(keys[0], held.stamp),)
        puts = (put, state_put(family, state), *beside) if is_new else (state_put(family, state),)
        if not isinstance(await store.commit(Commit(puts=puts, checks=checks)), Refused):
            return is_new
    raise StoreBusy("others import collateral for the same platforms")


class HeldDocument(NamedTuple):
    """A platform family: the state of its document, and the document; None for one that is wished
    for."""

    family: Family
    state: CollateralState
    collateral: Collateral | None


async def held_collateral(store: Store) -> Sequence[HeldDocument]:
    """Return all families by their name; raises AttestationError for a document that does not parse
    any more."""
    documents = {family: parse_collateral(raw) for family, raw in await collateral_documents(store)}
    states = await collateral_states(store)
    return [HeldDocument(family, state, documents.get(family)) for family, state, _ in states]


async def import_folder(
    store: Store,
    folder: Path,
    *,
    root: TrustRoot,
    clock: Clock,
    rules: RefreshRules = DEFAULT_RULES,
) -> int:
    """Import every JSON file of a folder, by name, and return how many there were.

    A document that is outdated, or older than the stored one, is skipped: a folder that was filled
    once must not prevent a node from starting.
    """
    paths = _documents(folder)
    for path in paths:
        try:
            data = read_collateral_file(path)
            await import_collateral(
                store, data, root=root, clock=clock, source=str(path), rules=rules
            )
        except CollateralRefused as error:
            code = getattr(error.__cause__, "code", None)
            if code not in ("collateral-window", "collateral-rollback"):
                raise
            log_warning("collateral-passed-over", file=path.name, code=code)
    return len(paths)


def _documents(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CollateralRefused(
            f"there is no folder {folder}", hint=f"mkdir {folder}, or unset release.collateral"
        )
    return sorted(path for path in folder.glob("*.json") if path.is_file())
