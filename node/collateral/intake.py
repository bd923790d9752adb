"""Import of attestation collateral.

Collateral is Intel's signed data about one platform family. A document is verified against the
trust root in force before it is stored, and never replaces a newer one. Its source, the time when
it was last found to be the newest, and the result of the last fetch are stored beside it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from capabilities.clock_and_entropy import Clock
from sealspace.service.command_errors import CollateralRefused
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
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.collateral_trust import check_replaces, verify_collateral
from tee_backend.attestation.refresh import DEFAULT_RULES, RefreshRules, due_at
from tee_backend.attestation.trust_files import read_collateral_file
from tee_backend.attestation.trust_root import TrustRoot

from ..logs import log_warning

IMPORTED = "import"
"""The source of documents that an operator imported."""
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
    """Verify and store a collateral document from the operator, and return it.

    Raises:
        CollateralRefused: it cannot be parsed or verified, is outdated, or is older than the stored
            one. `source` names the document in the message.
        SpaceError: the store does not accept it.
    """
    try:
        offered = parse_collateral(data)
        verify_collateral(offered, root=root, now=clock.now())
        await keep_collateral(store, offered, source=IMPORTED, now=clock.now(), rules=rules)
    except AttestationError as error:
        raise CollateralRefused(
            f"the collateral in {source} is refused: {error.code}: {error.detail}",
            hint="fetch the current collateral for the platform family, then import it",
        ) from error
    return offered


async def keep_collateral(
    store: Store,
    offered: Collateral,
    *,
    source: str,
    now: float,
    rules: RefreshRules,
    beside: Sequence[Put] = (),
) -> bool:
    """Store verified collateral unless the store has a newer document (AT19).

    This also holds while other processes store collateral.

    Args:
        store: where it is stored.
        offered: verified collateral.
        source: its source: IMPORTED, or the service's name.
        now: epoch seconds.
        rules: determine when it is due again.
        beside: further rows to write if the document differs from the stored one.
    Returns:
        Whether it differs from the document that was stored.
    Raises:
        CollateralUnusable: `collateral-rollback`, it is older than the stored one.
        CollateralUnusable: `collateral-signature`, its PCK list is not signed by the authority that
            the stored document names.
        CollateralUnusable: the stored document cannot be read.
        SpaceError: the store does not accept it.
    """
    family = (offered.fmspc, offered.ca)
    document_key = collateral_key(*family)
    state_key = collateral_state_key(*family)
    for _ in range(_TRIES):
        stored, state_row = (await store.read([document_key, state_key])).records
        is_new = stored is None or stored.value != offered.raw
        stored_source = _source_of(state_of(state_row))
        state = CollateralState(
            # An identical document keeps the source that it came from.
            source=source if is_new or stored_source is None else stored_source,
            refreshed_at=now,
            tried_at=now,
            due_at=due_at(offered, refreshed_at=now, tried_at=now, rules=rules),
        )
        if stored is not None and not is_new:
            # An identical document is not written again: the commits of attestation sessions in
            # progress require its row to be unchanged. This commit requires it, too.
            commit = Commit(
                puts=(state_put(family, state),), checks=(Check(document_key, stored.stamp),)
            )
        else:
            if stored is not None and stored.value is not None:
                check_replaces(offered, parse_collateral(stored.value))
            put = Put(document_key, offered.raw, expect=stamp_of(stored))
            commit = Commit(puts=(put, state_put(family, state), *beside))
        if not isinstance(await store.commit(commit), Refused):
            return is_new
        # Another process has changed the document meanwhile, so read it again.
    raise StoreBusy("other processes are importing collateral for the same platforms")


def _source_of(state: CollateralState | None) -> str | None:
    """Return the source of a stored document, or None if there is no document."""
    if state is None or state.is_missing:
        return None
    return state.source


class FamilyCollateral(NamedTuple):
    """The attestation collateral of one platform family, with its refresh state."""

    family: Family
    state: CollateralState
    collateral: Collateral | None


async def list_collateral(store: Store) -> Sequence[FamilyCollateral]:
    """Return the stored collateral of each platform family.

    The entries contain the refresh state of the collateral.

    Raises:
        AttestationError: a stored document does not parse.
    """
    documents = {family: parse_collateral(raw) for family, raw in await collateral_documents(store)}
    return [
        FamilyCollateral(family=family, state=state, collateral=documents.get(family))
        for family, state, _ in await collateral_states(store)
    ]


async def import_folder(
    store: Store,
    folder: Path,
    *,
    root: TrustRoot,
    clock: Clock,
    rules: RefreshRules = DEFAULT_RULES,
) -> None:
    """Import the collateral files in a folder.

    Outdated documents, and those older than the stored one, are skipped. Otherwise a folder that
    was filled once would later prevent a node from starting.
    """
    outdated_codes = ("collateral-window", "collateral-rollback")
    for path in _documents(folder):
        try:
            await import_collateral(
                store,
                read_collateral_file(path),
                root=root,
                clock=clock,
                source=str(path),
                rules=rules,
            )
        except CollateralRefused as error:
            code = getattr(error.__cause__, "code", None)  # that of the `AttestationError`
            if code not in outdated_codes:
                raise
            log_warning("collateral-passed-over", file=path.name, code=code)


def _documents(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CollateralRefused(
            f"release.collateral is set to {folder}, which does not exist",
            hint=f"create the folder (mkdir {folder}), or unset release.collateral",
        )
    return sorted(path for path in folder.glob("*.json") if path.is_file())
