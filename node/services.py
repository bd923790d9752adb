"""The dependencies of every handler and operation; made once for each process and passed on, never global."""

from dataclasses import dataclass, field

from aiohttp import web

from capabilities.ambient import Clock, Entropy
from encryption_network.keyring import Keyring
from spaces.grants.delegations import Delegations
from spaces.grants.hosting import HostingPolicy
from spaces.store.contract import Store
from spaces.values.quota import QuotaPolicy
from spaces.values.value_heads import Values
from tee_backend.attestation.trust_root import TrustRoot

from .cohort import Cohort
from .collateral.quotes import Quotes
from .collateral.source import CollateralSource
from .config.tree import Config
from .counts import RequestCounter
from .document_cache import DocumentCache
from .platform.admin_key import AdminKey
from .platform.own_quotes import OwnQuotes
from .rates import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The components of one node.

    Attributes:
        config: settings in force.
        clock: the current time; moved by tests.
        entropy: random bytes; fixed by tests.
        store: all stored data.
        keyring: the root secret and every key derived from it.
        store_id: random id of the store, 16 bytes, written when the store was made.
        delegations: finds registered delegations, in memory or in the store.
        values: plans writes of values and reads their bodies.
        hosting: which spaces are hosted, and within which bounds.
        quotes: where quotes are verified, one at a time.
        kept: which documents of receipts are known to be in the store.
        collateral_source: where collateral is fetched from; None: nowhere.
        challenge_rates: how often one client may ask for challenges and sessions.
        public_rates: how often one client may read public values.
        unauthenticated_rates: how much work one client may cause without being authorised; see
            `http.messages.unauthenticated`.
        admin_key: the key to the operator's routes; None: no key opens them.
        trust_root: the root certificate that this process was started with; the release record has to name it.
        own_quotes: where the node's own quotes are made; None: it runs in no trust domain.
        own_quote_rates: how often one client may ask for them.
        cohort: schedules requests that arrived together.
        counter: counts for the operator of the node; None: metrics are off.
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
    own_quotes: OwnQuotes | None
    own_quote_rates: Rates
    cohort: Cohort = field(default_factory=Cohort)
    counter: RequestCounter | None = None

    @property
    def quota(self) -> QuotaPolicy:
        """The configured storage limits of spaces."""
        return quota_policy(self.config)


def quota_policy(config: Config) -> QuotaPolicy:
    """Return the storage limits of spaces that settings state."""
    return QuotaPolicy(
        default_bytes=config.hosting.default_quota_bytes or None,
        public_bytes=config.public_spaces.storage_limit_bytes,
    )


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
