"""The node's key-release policy, from the configuration and the store.

The first start writes the record from the configuration. A later configuration may be stricter than
the record but never looser: the ability to start a process with other flags must not open keys.
`sealspace admin release set` changes the record for all processes at once and writes an audit
record (RL16).
"""

from dataclasses import replace
from pathlib import Path

from encryption_network.key_providers import accepted_by_both, is_accepted
from encryption_network.release_record import STRICTNESS, ReleaseRecord, decode_release_record
from sealspace.service.term_files import key_providers_named
from spaces.keyspace import RELEASE_RECORD_KEY
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Store, read_row
from tee_backend.attestation.trust_files import read_trust_root
from tee_backend.attestation.trust_root import TrustRoot, intel_root

from .config.tree import Release

_MOST_SHOWN_CHARS = 80
"""The characters of a key provider that a message shows; its id may be long."""


def configured_record(release: Release) -> ReleaseRecord:
    """Convert the key-release settings to a record for the store.

    The record has no node policy.
    """
    return ReleaseRecord(
        mode=release.attestation,
        trust_roots=(configured_trust_root(release).sha256,),
        node_policy_suffices=release.node_policy_suffices,
        key_providers=key_providers_named(release.key_providers, where="release.key_providers"),
    )


def loosened(release: Release, record: ReleaseRecord) -> str | None:
    """Describe how the configured key-release policy is less strict than the stored one.

    Return None if it is not less strict.
    """
    # The settings have no node policy: it is set only in the record.
    configured = replace(configured_record(release), node_policy=record.node_policy)
    if not configured.is_looser_than(record):
        return None
    if not set(configured.trust_roots) <= set(record.trust_roots):
        root = release.trust_root or "Intel's root certificate"
        return f"the configuration trusts {root}, which the store's release record does not name"
    if STRICTNESS[release.attestation] < STRICTNESS[record.mode]:
        return (
            f"release.attestation is {release.attestation}, but the store's release record says"
            f" {record.mode}"
        )
    for provider in configured.key_providers:
        if not is_accepted(provider, record.key_providers):
            return (
                f"release.key_providers accepts {provider[:_MOST_SHOWN_CHARS]}, which the store's"
                " release record does not"
            )
    return "release.node_policy_suffices is set, but not in the store's release record"


def in_force(release: Release, record: ReleaseRecord) -> ReleaseRecord:
    """Return the key-release policy that is in force.

    This is the stored record, tightened where the configuration is stricter. The mode is the
    stricter of the two, and only key providers that both accept remain. Everything else is taken
    from the record.
    """
    strictest = max(release.attestation, record.mode, key=STRICTNESS.__getitem__)
    providers = record.key_providers
    if release.key_providers != providers:
        providers = accepted_by_both(release.key_providers, providers)
    if (strictest, providers) == (record.mode, record.key_providers):
        return record
    return replace(record, mode=strictest, key_providers=providers)


async def recorded_release(store: Store) -> ReleaseRecord | None:
    """Return the stored key-release policy, or None."""
    row = await read_row(store, RELEASE_RECORD_KEY)
    return None if row is None or row.value is None else decode_release_record(row.value)


async def current_release(store: Store) -> ReleaseRecord:
    """Return the stored key-release policy.

    Raises:
        RecordDamaged: the record was deleted.
    """
    record = await recorded_release(store)
    if record is None:
        raise RecordDamaged("the release record was deleted")
    return record


def configured_trust_root(release: Release) -> TrustRoot:
    """Return the configured root certificate for verifying quotes.

    The default is Intel's.
    """
    return intel_root() if release.trust_root is None else read_trust_root(Path(release.trust_root))
