"""The commands `sealspace admin release`, `withdraw` and `collateral`."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.strict_json import Json, JsonObject
from encryption_network.network_errors import RecordError, WithdrawalError
from encryption_network.policy import policy_json
from encryption_network.release_record import (
    INTEL_ROOT_SHA256,
    ReleaseRecord,
    decode_release_record,
    encode_release_record,
)
from encryption_network.withdrawals import parse_withdrawal
from sealspace.cli.lazy import Verbs
from sealspace.cli.options.paths import FILE, file_option
from sealspace.cli.terminal import (
    flag_option,
    print_documents,
    print_json,
    repeatable_option,
    time_text,
)
from sealspace.service.command_errors import CollateralRefused, ConfigurationError, StoreMisused
from sealspace.service.term_files import key_providers_named, read_node_policy
from spaces.audit.audit_records import AuditRecord
from spaces.keyspace import RELEASE_RECORD_KEY
from spaces.space_errors import StoreBusy
from spaces.store.contract import Put, Store, commit_puts, read_row
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.trust_files import read_collateral_file, read_trust_root

from ..collateral.collateral_source import refresh_rules
from ..collateral.intake import FamilyCollateral, import_collateral, list_collateral
from ..config.tree import AttestationMode, Config
from ..operations.releases.withdrawal import withdraw_everywhere, withdrawals_json
from ..release_terms import configured_trust_root, recorded_release
from .opened_store import on_store, run_on_store
from .settings import configured, trust_root_option

_COLUMNS = {"fmspc": "platform family", "ca": "CA", "ends": "until"}


@click.command()
@configured
@click.option(
    "--measurement",
    metavar="HEX",
    help="Withdraw the code with this register value (96 hex digits) or compose hash (64 hex"
    " digits).",
)
@click.option(
    "--did",
    metavar="DID",
    help="Withdraw a backend and every delegation that the backend signed or received.",
)
@click.option(
    "--evidence",
    metavar="DIGEST",
    help="Withdraw the evidence with this digest. Receipts and audit records contain the digest.",
)
def withdraw(config: Config, **options: str | None) -> None:
    """Withdraw trust in a code measurement, a backend or attestation evidence.

    The node then releases no keys to such code or backends, or for such evidence.

    Prints all code, backends and evidence that this command has withdrawn so far.
    """
    withdrawal: JsonObject = {name: value for name, value in options.items() if value is not None}
    if len(withdrawal) != 1:
        raise click.UsageError("use exactly one of --measurement, --did or --evidence")
    try:
        entry = parse_withdrawal(withdrawal)
        now = SystemClock.now()
        withdrawals = run_on_store(
            config,
            lambda store: withdraw_everywhere(store, entry, now=now, entropy=SystemEntropy()),
        )
    except WithdrawalError as error:
        raise ConfigurationError(error.text, hint="sealspace admin withdraw --help") from None
    except RecordError as error:
        raise StoreMisused(f"the store cannot be read: {error}", hint="sealspace doctor") from error
    print_json(withdrawals_json(withdrawals))


@click.group(cls=Verbs)
def release() -> None:
    """Show or set the node's policy for key releases.

    All processes of the node follow the policy.
    """


@release.command("show")
@on_store
async def show(config: Config, store: Store) -> None:
    """Print the node's policy for key releases as JSON."""
    record, _stamp = await _stored(config, store)
    print_json(_shown(record))


@release.command("set")
@configured
@click.option(
    "--attestation",
    type=click.Choice(get_args(AttestationMode)),
    help="Callers that must prove which code they run. `delegates` means all callers except the"
    " owner.",
)
@file_option("--trust-root", help="Trust this root certificate instead of Intel's.")
@flag_option("--intel-root", help="Trust Intel's root certificate.")
@file_option("--node-policy", help="Set the node's own policy, a JSON file.")
@flag_option("--no-node-policy", help="Remove the node's own policy.")
@click.option(
    "--node-policy-suffices/--owner-policy-needed",
    default=None,
    help="Whether a key release needs only the node's own policy, or also a policy of the owner.",
)
@repeatable_option(
    "--key-provider",
    "key_providers",
    metavar="PROVIDER",
    help="Accept applications that use this key provider. Repeatable.",
)
@flag_option("--no-key-provider", help="Remove all accepted key providers.")
def set_terms(
    config: Config,
    attestation: AttestationMode | None,
    trust_root: Path | None,
    intel_root: bool,
    node_policy: Path | None,
    no_node_policy: bool,
    node_policy_suffices: bool | None,
    key_providers: tuple[str, ...],
    no_key_provider: bool,
) -> None:
    """Change the node's policy for key releases.

    The change applies to all processes of the node and is audited.
    """
    sets_two_roots = trust_root and intel_root
    sets_and_removes_policy = node_policy and no_node_policy
    sets_and_removes_providers = key_providers and no_key_provider
    if sets_two_roots or sets_and_removes_policy or sets_and_removes_providers:
        raise click.UsageError(
            "use only one option of each pair: --trust-root or --intel-root, --node-policy or"
            " --no-node-policy, --key-provider or --no-key-provider"
        )
    changes: dict[str, Any] = {}  # Any: the types of the record's fields
    if attestation is not None:
        changes["mode"] = attestation
    if trust_root or intel_root:
        # Without a file, this is Intel's root.
        changes["trust_roots"] = (read_trust_root(trust_root).sha256,)
    if node_policy:
        changes["node_policy"] = read_node_policy(node_policy)
    elif no_node_policy:
        changes["node_policy"] = None
    if node_policy_suffices is not None:
        changes["node_policy_suffices"] = node_policy_suffices
    if key_providers or no_key_provider:  # with `--no-key-provider`, the list is empty
        changes["key_providers"] = key_providers_named(key_providers, where="--key-provider")
    if not changes:
        raise click.UsageError("nothing to set; see `sealspace admin release set --help`")
    print_json(_shown(run_on_store(config, lambda store: _change(config, store, changes))))


async def _change(config: Config, store: Store, changes: dict[str, Any]) -> ReleaseRecord:
    """Write the changed policy and its audit record in one commit."""
    former, stamp = await _stored(config, store)
    record = replace(former, **changes)
    audit = AuditRecord(
        at=SystemClock.now(),
        action="release.set",
        actor="operator",
        subject="release record",
        detail=msgspec.json.encode(_shown(record)),
    )
    put = Put(RELEASE_RECORD_KEY, encode_release_record(record), expect=stamp)
    if not await commit_puts(store, put, audit.put(SystemEntropy())):
        raise StoreBusy("another process changed the key-release policy")
    return record


async def _stored(config: Config, store: Store) -> tuple[ReleaseRecord, bytes]:
    """Return the stored policy, and the stamp of its row."""
    row = await read_row(store, RELEASE_RECORD_KEY)
    if row is None or row.value is None:
        raise StoreMisused(
            f"the store in {config.data} has no key-release policy yet",
            hint=f"create the policy: sealspace serve --data {config.data}",
        )
    return decode_release_record(row.value), row.stamp


def _shown(record: ReleaseRecord) -> JsonObject:
    roots: list[Json] = []
    for root in record.trust_roots:
        roots.append("intel" if root == INTEL_ROOT_SHA256 else root.hex())
    return {
        "attestation": record.mode,
        "trustRoots": roots,
        "nodePolicy": None if record.node_policy is None else policy_json(record.node_policy),
        "nodePolicySuffices": record.node_policy_suffices,
        "keyProviders": list(record.key_providers),
    }


# --- collateral -----------------------------------------------------------------------------------


@click.group(cls=Verbs)
def collateral() -> None:
    """Import or list Intel's attestation collateral.

    Each file describes one platform family.
    """


@collateral.command("import")
@on_store
@trust_root_option
@click.argument("files", metavar="FILE...", type=FILE, nargs=-1, required=True)
async def import_files(config: Config, store: Store, files: tuple[Path, ...]) -> None:
    """Verify and store files of attestation collateral.

    The command prints the platform family and the expiry of each FILE.
    """
    root = configured_trust_root(config.release)
    record = await recorded_release(store)
    if record is None or root.sha256 not in record.trust_roots:
        raise CollateralRefused(
            "the store's key-release policy does not accept the trust root",
            hint="use another root with --trust-root FILE; sealspace admin release show prints"
            " the accepted trust roots",
        )
    clock = SystemClock()
    rules = refresh_rules(config.collateral)
    shown = []
    for path in files:
        document = await import_collateral(
            store, read_collateral_file(path), root=root, clock=clock, source=str(path), rules=rules
        )
        shown.append(
            {
                "fmspc": document.fmspc.hex(),
                "ca": document.ca,
                "ends": time_text(document.ends_at),
            }
        )
    print_documents(shown, _COLUMNS)


@collateral.command("list")
@on_store
async def list_held(_: Config, store: Store) -> None:
    """List the stored and the missing attestation collateral.

    The output has one line for each platform family.

    With --json, `source` is "import", or the host that the document was fetched from. `refreshed`
    is when the document was last fetched or confirmed to be current, and `failed` is the reason of
    the last failed fetch. An entry without `windows` is for a platform family whose document is
    missing, although the node has received a quote of the family.
    """
    try:
        entries = [_description(entry) for entry in await list_collateral(store)]
    except AttestationError as error:
        raise CollateralRefused(
            f"a stored document cannot be read: {error.code}: {error.detail}",
            hint="import the collateral of all platform families again: sealspace admin collateral"
            " import FILE",
        ) from error
    print_documents(
        entries,
        {**_COLUMNS, "source": "source", "failed": "last failure"},
        nothing="no collateral is stored; next: sealspace admin collateral import FILE",
    )


def _description(entry: FamilyCollateral) -> dict[str, object]:
    """Return the members that `collateral list` shows of a platform family."""
    fmspc, ca = entry.family
    state, collateral = entry.state, entry.collateral
    described: dict[str, object] = {"fmspc": fmspc.hex(), "ca": ca}
    if collateral is None:  # a quote of this family was seen, and nothing was fetched for it yet
        described["wanted"] = time_text(state.wanted_at)
    else:
        windows = {
            part: [time_text(window.starts_at), time_text(window.ends_at)]
            for part, window in collateral.windows
        }
        described |= {
            "source": state.source,
            "evaluationNumber": collateral.tcb_info.members.evaluation_number,
            "issued": time_text(collateral.tcb_info.window.starts_at),
            "ends": time_text(collateral.ends_at),
            "windows": windows,
            "refreshed": time_text(state.refreshed_at),
        }
    return described | {
        "tried": time_text(state.tried_at) if state.tried_at else None,
        "failed": state.failed or None,
        "failures": state.failures,
    }
