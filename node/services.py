"""The services that all operations of a process share."""

from dataclasses import field

from aiohttp import web

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.frozen import frozen
from encryption_network.keyring import Keyring
from spaces.grants.delegation_cache import Delegations
from spaces.grants.hosting import HostingPolicy
from spaces.space_errors import StoreFull
from spaces.sql.databases import Databases
from spaces.store.contract import Check, Record, Store
from spaces.store.sequence_waits import SequenceWaits
from spaces.values.quota import QuotaPolicy
from spaces.values.value_storage import Values
from tee_backend.attestation.trust_root import TrustRoot

from .cohort import Cohort
from .collateral.collateral_source import CollateralSource
from .collateral.issuer_keys import IssuerKeys
from .collateral.quotes import Quotes
from .config.tree import Config
from .counts import RequestCounter
from .document_cache import DocumentCache
from .platform.admin_key import AdminKey
from .platform.own_quotes import QuoteQueue
from .rates import Rates


@frozen(kw_only=True)
class Services:
    """The components of one node process.

    Attributes:
        databases: the SQL databases; None if the store is a database server (SQ2).
        root_secret_check: requires the root secret to be the one that this process started with;
            None if the store was too full to record the secret.
    """

    config: Config
    clock: Clock
    entropy: Entropy
    store: Store
    keyring: Keyring
    root_secret_check: Check | None
    store_id: bytes
    delegations: Delegations
    values: Values
    hosting: HostingPolicy
    quotes: Quotes
    kept: DocumentCache
    collateral_source: CollateralSource | None
    challenge_rates: Rates
    public_rates: Rates
    unauthenticated_rates: Rates
    decoding_rates: Rates
    admin_key: AdminKey | None
    trust_root: TrustRoot
    own_quotes: QuoteQueue | None
    own_quote_rates: Rates
    databases: Databases | None
    issuer_keys: IssuerKeys
    counter: RequestCounter | None
    waits: SequenceWaits
    cohort: Cohort = field(default_factory=Cohort)

    def now(self) -> float:
        """Return the time in epoch seconds."""
        return self.clock.now()

    @property
    def sealing_checks(self) -> tuple[Check, ...]:
        """Conditions of every commit that stores something sealed by the root secret (RK4).

        The commit fails if the root secret is being replaced or was replaced.

        Raises:
            StoreFull: the store had no space for the record of the root secret at the start.
        """
        if self.root_secret_check is None:
            raise StoreFull(
                "the store had no space at the start to record its root secret; free space, then"
                " restart the node"
            )
        return (self.root_secret_check,)

    def has_present_secret(self, root_secret: Record | None) -> bool:
        """Return whether the root secret is still the one that this process started with (RK4).

        `root_secret` is the row under `ROOT_SECRET_KEY`.
        """
        if self.root_secret_check is None or root_secret is None:
            return self.root_secret_check is None and root_secret is None
        return root_secret.stamp == self.root_secret_check.stamp

    @property
    def quota(self) -> QuotaPolicy:
        """The configured storage limits of spaces."""
        return quota_policy(self.config)


def quota_policy(config: Config) -> QuotaPolicy:
    """Return the configured storage limits of spaces."""
    return QuotaPolicy(
        default_bytes=config.hosting.default_quota_bytes or None,
        public_bytes=config.public_spaces.storage_limit_bytes,
    )


SERVICES = web.AppKey("services", Services)
