"""Startup checks of the store (store §7, RL16).

They cover the store's schema, identity and key-release policy. Every process that opens the store
does this. The very first process writes the rows; later processes compare them. No request is
served before.
"""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from capabilities.capability_errors import InvalidIdentifier
from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.principals import parse_principal
from encryption_network.keyring import Keyring
from encryption_network.network_errors import RecordError
from encryption_network.release_record import encode_release_record
from encryption_network.withdrawals import NOTHING_WITHDRAWN, encode_withdrawals
from sealspace.service.command_errors import ConfigurationError, ReleaseLoosened, StoreMisused
from spaces.grants.decoding import DECODED_PER_MINUTE
from spaces.grants.delegation_cache import Delegations
from spaces.grants.hosting import HostingPolicy
from spaces.grants.replay_records import restore_wait
from spaces.identity import ensure_identity
from spaces.keyspace import HOSTING_MODE_KEY, RELEASE_RECORD_KEY, WITHDRAWALS_KEY
from spaces.space_errors import RecordDamaged, StartRefused, StoreFull, WrongSecret
from spaces.sql.database_rows import DATABASES_FOLDER
from spaces.sql.databases import Databases
from spaces.store.contract import (
    ABSENT,
    REVOCATION_RESERVE,
    Check,
    Commit,
    Put,
    Store,
    commit_puts,
    read_row,
)
from spaces.store.lmdb.engine import socket_path_for
from spaces.store.sequence_waits import SequenceWaits, WaitBounds
from spaces.values.value_storage import Values

from ..collateral.collateral_source import configured_source, refresh_rules
from ..collateral.intake import import_folder
from ..collateral.issuer_keys import IssuerKeys
from ..collateral.quotes import Quotes
from ..config.tree import Config, Hosting, PublicSpaces
from ..config.tree import Store as StoreSettings
from ..counts import RequestCounter
from ..document_cache import DocumentCache
from ..logs import tell_operator
from ..platform.admin_key import load_admin_key
from ..platform.own_quotes import quote_queue
from ..platform.root_secret import wrong_secret_hint
from ..rates import Rates
from ..release_terms import (
    configured_record,
    configured_trust_root,
    current_release,
    loosened,
    recorded_release,
)
from ..services import Services
from ..storage.objects import claim_objects, open_objects
from ..storage.root_secrets import opened_keyring, record_root_secret
from ..storage.stores import recorded_text, refuse_unsafe_copy, start_refused
from .keeper_launch import SQL_SOCKET
from .open_files import own_files


async def claim_store(
    config: Config,
    *,
    store: Store,
    keyring: Keyring,
    clock: Clock,
    entropy: Entropy,
    again: bool = False,
    counter: RequestCounter | None = None,
) -> Services:
    """Check that the store matches the root secret and the configuration.

    Args:
        keyring: derived from the configured root secret alone.
        again: this process replaces one of a node that has started. A release record that has
            become stricter than the configuration meanwhile is then no reason to stop, because
            releases are decided by the record.

    Raises:
        StoreMisused: the store belongs to another secret, or cannot be read.
        ReleaseLoosened: the configuration is looser than the release record.
        ConfigurationError: a file that the settings name is unusable, or a restored store needs a
            statement of the hosting mode.
        SpaceError: the store does not answer.
    """
    if not again:
        await refuse_unsafe_copy(config, store)
    claimed = await _claim_rows(config, store, keyring, clock, entropy, again=again)
    store_id = claimed.store_id
    objects = open_objects(config)
    if not again:
        await claim_objects(config, store, objects, store_id=store_id)
    return Services(
        config=config,
        clock=clock,
        entropy=entropy,
        store=store,
        keyring=claimed.keyring,
        root_secret_check=claimed.root_secret_check,
        store_id=store_id,
        delegations=Delegations(store, max_bytes=config.store.delegation_cache_bytes),
        values=Values(store, objects, entropy, kept=_kept_versions(config.store)),
        hosting=hosting_policy(config.hosting),
        quotes=Quotes(most_waiting=config.limits.quotes_waiting),
        kept=DocumentCache(),
        collateral_source=configured_source(config.collateral),
        challenge_rates=Rates(per_minute=config.limits.challenges_per_minute),
        public_rates=_public_rates(config.public_spaces),
        unauthenticated_rates=Rates(per_minute=config.limits.unauthenticated_per_minute),
        decoding_rates=Rates(per_minute=DECODED_PER_MINUTE, code="decoding-rate"),
        admin_key=load_admin_key(config.admin),
        trust_root=configured_trust_root(config.release),
        own_quotes=quote_queue(config.platform),
        own_quote_rates=Rates(per_minute=config.platform.quotes_per_minute),
        databases=_databases(config),
        issuer_keys=IssuerKeys(config.oidc.issuers),
        counter=counter,
        waits=SequenceWaits(store, _wait_bounds(config)),
    )


def _wait_bounds(config: Config) -> WaitBounds:
    """Return how many calls of the change feed may wait in this process (CF13).

    They take at most half of the connections that the process, and a client address, may have.
    """
    return WaitBounds(
        most=min(config.limits.feed_waits, own_files(config).connections // 2),
        most_per_owner=config.limits.feed_waits_per_owner,
        most_per_client=(config.http.connections_per_client + 1) // 2,
    )


def _kept_versions(settings: StoreSettings) -> dict[str, int]:
    """Return how many former values are kept, by space and prefix."""
    most_by_place = {}
    for setting in settings.versions:  # PLACE=NUMBER
        place, most = setting.rsplit("=", 1)
        most_by_place[place] = int(most)
    return most_by_place


def _public_rates(public_spaces: PublicSpaces) -> Rates:
    """Return the rate limiter for public reads.

    An idle client may make the burst at once, and the requests of one more second.
    """
    per_minute = public_spaces.requests_per_minute
    per_second = per_minute / 60
    # With less than one token, a bucket would refuse every request.
    most = max(public_spaces.burst + per_second, 1.0)
    return Rates(per_minute=per_minute, most=most)


def _databases(config: Config) -> Databases | None:
    if config.is_shared:  # there are no SQL databases then (SQ2)
        return None
    return Databases(
        config.data / DATABASES_FOLDER,
        socket_path_for(config.data, SQL_SOCKET),
        wait_s=config.sql.write_s,
    )


class _Claimed(NamedTuple):
    """The keys of a store, the condition that they are the present ones, and the store's id."""

    keyring: Keyring
    root_secret_check: Check | None
    store_id: bytes


async def _claim_rows(
    config: Config, store: Store, offered: Keyring, clock: Clock, entropy: Entropy, *, again: bool
) -> _Claimed:
    """Check the store's root secret, identity and key-release policy when a process starts.

    The first start writes them. `offered` is derived from the configured root secret alone.
    """
    try:
        keyring = await opened_keyring(store, offered)
        identity = await ensure_identity(store, node_did=keyring.node_did, entropy=entropy)
        root_secret_check = await record_root_secret(store, keyring, now=clock.now())
        if not again:
            await _claim_release_record(config, store)
            # The row exists from the first start on, so that a commit can check its stamp (RC21).
            if await read_row(store, WITHDRAWALS_KEY) is None:
                no_withdrawals = encode_withdrawals(NOTHING_WITHDRAWN)
                await commit_puts(store, Put(WITHDRAWALS_KEY, no_withdrawals, expect=ABSENT))
            await _record_hosting_mode(store, config.hosting.mode)
    except WrongSecret as error:
        raise StoreMisused(str(error), hint=wrong_secret_hint(config, error.recorded)) from error
    except StartRefused as error:
        raise start_refused(config, error) from error
    except (RecordDamaged, RecordError) as error:
        raise StoreMisused(
            f"the store cannot be read: {error}",
            hint="start the version of sealspace that wrote the store, or restore a backup",
        ) from error
    return _Claimed(
        keyring=keyring, root_secret_check=root_secret_check, store_id=identity.store_id
    )


async def _record_hosting_mode(store: Store, mode: str) -> None:
    """Record the hosting mode for a later start whose settings do not state it (ST18).

    The commit may use the last space of a nearly full store, as a revocation may (ST17).
    """
    if await recorded_text(store, HOSTING_MODE_KEY) == mode:
        return
    mode_row = Put(HOSTING_MODE_KEY, mode.encode())
    with suppress(StoreFull):  # a node also starts on a full disk, for reading
        await store.commit(Commit(puts=(mode_row,), reserve=REVOCATION_RESERVE))


def hosting_policy(hosting: Hosting) -> HostingPolicy:
    """Return the policy that decides who may create spaces.

    The policy also limits the number of spaces.
    """
    try:
        listed = frozenset(parse_principal(did) for did in hosting.listed)
    except InvalidIdentifier as error:
        raise ConfigurationError(
            f"hosting.listed: {error.text}", hint="list complete DIDs, such as did:key:z6Mk…"
        ) from None
    return HostingPolicy(
        mode=hosting.mode,
        listed=listed,
        per_grant=hosting.spaces_per_grant,
        per_owner=hosting.spaces_per_owner,
        total=hosting.spaces_total,
        new_owners_per_hour=hosting.new_owners_per_hour,
    )


async def load_collateral(services: Services) -> None:
    """Import attestation collateral from the configured folder.

    Only one process of a node does this.
    """
    folder = services.config.release.collateral
    if folder is None:
        return
    await import_folder(
        services.store,
        Path(folder),
        root=services.trust_root,
        clock=services.clock,
        rules=refresh_rules(services.config.collateral),
    )


async def report_restore_wait(services: Services) -> None:
    """Warn the operator if this node refuses some tokens because it was restored (BK5).

    A restored node refuses tokens that expire before a time, because they may have been used before
    the restore.
    """
    warning = await restore_wait(services.store, services.now())
    if warning:  # empty if the node was not restored, or that time has passed
        tell_operator(warning, level="warning")


async def _claim_release_record(config: Config, store: Store) -> None:
    """At startup, compare the configured key-release policy with the stored policy.

    The first start stores the configured policy. Later, a less strict configuration is
    refused (RL16).
    """
    if await recorded_release(store) is None:
        new_record = encode_release_record(configured_record(config.release))
        await commit_puts(store, Put(RELEASE_RECORD_KEY, new_record, expect=ABSENT))
    record = await current_release(store)  # another process may have written it first
    difference = loosened(config.release, record)
    if difference is not None:
        raise ReleaseLoosened(
            difference,
            hint="print the release record with sealspace admin release show, and change the record"
            " with sealspace admin release set",
        )
