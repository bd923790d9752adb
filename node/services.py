"""The services that all operations of a process share."""

from dataclasses import field

from aiohttp import web

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.frozen import frozen
from encryption_network.keyring import Keyring
from spaces.grants.delegations import Delegations
from spaces.grants.hosting import HostingPolicy
from spaces.sql.databases import Databases
from spaces.store.contract import Store
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
    """

    config: Config
    clock: Clock
    entropy: Entropy
    store: Store
    keyring: Keyring
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
    admin_key: AdminKey | None
    trust_root: TrustRoot
    own_quotes: QuoteQueue | None
    own_quote_rates: Rates
    databases: Databases | None
    issuer_keys: IssuerKeys
    counter: RequestCounter | None
    cohort: Cohort = field(default_factory=Cohort)

    def now(self) -> float:
        """Return the time in epoch seconds."""
        return self.clock.now()

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
