"""`sealspace admin collateral`: import what Intel publishes about its platforms, and list what is stored."""

from pathlib import Path

import click

from capabilities.ambient import SystemClock
from sealspace.cli.errors import CollateralRefused
from sealspace.cli.lazy import Verbs
from sealspace.cli.paths import FILE
from sealspace.cli.terminal import print_rows, time_text
from spaces.store.contract import Store
from tee_backend.attestation.errors import AttestationError
from tee_backend.cli.trust_files import read_collateral_file

from ..collateral.intake import HeldDocument, held_collateral, import_collateral
from ..collateral.source import refresh_rules
from ..config.tree import Config
from ..release_terms import configured_trust_root, recorded_release
from .opened_store import on_store
from .settings import trust_root_option


@click.group(cls=Verbs)
def collateral() -> None:
    """Take in what Intel publishes about its platforms, and list it: one document for each platform family."""


@collateral.command("import")
@on_store
@trust_root_option
@click.argument("files", metavar="FILE...", type=FILE, nargs=-1, required=True)
async def import_files(config: Config, store: Store, files: tuple[Path, ...]) -> None:
    """Verify each FILE and keep it; prints the platform family of each, and until when it holds."""
    root = configured_trust_root(config.release)
    record = await recorded_release(store)
    if record is None or root.sha256 not in record.trust_roots:
        raise CollateralRefused(
            "the trust root is not the one that the store's release record names",
            hint="give it with --trust-root FILE; sealspace admin release show prints the record",
        )
    clock, rules = SystemClock(), refresh_rules(config.collateral)
    found = []
    for path in files:
        document = read_collateral_file(path)
        one = await import_collateral(store, document, root=root, clock=clock, source=str(path), rules=rules)
        found.append({"fmspc": one.fmspc.hex(), "ca": one.ca, "ends": time_text(one.ends_at)})
    print_rows(found, ("platform family", "CA", "until"), [tuple(one.values()) for one in found], nothing="")


@collateral.command("list")
@on_store
async def list_held(_: Config, store: Store) -> None:
    """Print what is held, and what is wanted: one line for each platform family; --json has more.

    `source` says what brought the document: "import", or the host it was fetched from. `refreshed` is when it was last
    found to be the newest, `failed` why the last try to fetch it brought nothing. A family without `windows` was named
    by a quote, and no document of it is held.
    """
    try:
        found = [_description(held) for held in await held_collateral(store)]
    except AttestationError as error:
        raise CollateralRefused(
            f"a document that is held cannot be read: {error.code}: {error.detail}",
            hint="import a fresh document for the platform family",
        ) from error
    shown = ("fmspc", "ca", "ends", "source", "failed")
    rows = [tuple(str(one.get(name) or "-") for name in shown) for one in found]
    headers = ("platform family", "CA", "until", "source", "last failure")
    print_rows(found, headers, rows, nothing="no collateral is held; next: sealspace admin collateral import FILE")


def _description(held: HeldDocument) -> dict[str, object]:
    (fmspc, ca), state, document = held
    described: dict[str, object] = {"fmspc": fmspc.hex(), "ca": ca}
    if document is None:
        described["wanted"] = time_text(state.wanted_at)
    else:
        described |= {
            "source": state.source,
            "evaluationNumber": document.tcb_info.stated.evaluation_number,
            "issued": time_text(document.tcb_info.window.starts_at),
            "ends": time_text(document.ends_at),
            "windows": {name: [time_text(w.starts_at), time_text(w.ends_at)] for name, w in document.windows},
            "refreshed": time_text(state.refreshed_at),
        }
    tried = time_text(state.tried_at) if state.tried_at else None
    return described | {"tried": tried, "failed": state.failed or None, "failures": state.failures}
