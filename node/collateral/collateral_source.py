"""Client for the configured attestation collateral service."""

from urllib.parse import urlsplit

from tee_backend.attestation.collateral import Collateral as Document
from tee_backend.attestation.evaluation_numbers import (
    Evaluation,
    check_edition,
    verify_evaluation_numbers,
)
from tee_backend.attestation.pcs import (
    INTEL_ROOT_CRL_URL,
    INTEL_SERVICE_URL,
    CollateralService,
    ServiceSettings,
)
from tee_backend.attestation.refresh import RefreshRules
from tee_backend.attestation.trust_root import TrustRoot

from ..config.tree import Collateral

MAX_NAME_CHARS = 255


class CollateralSource:
    """A source of attestation collateral.

    The caller has to verify the documents.
    """

    def __init__(self, settings: ServiceSettings, *, checks_numbers: bool) -> None:
        self.service = CollateralService(settings)
        self._checks_numbers = checks_numbers
        self.name = (urlsplit(settings.base_url).hostname or "")[:MAX_NAME_CHARS]

    async def check_edition(
        self, document: Document, *, root: TrustRoot, now: float
    ) -> Evaluation | None:
        """Reject attestation collateral that Intel has superseded (AT33).

        The check applies only if the settings enable it.

        Args:
            document: verified collateral.
            root: the configured trust root.
            now: epoch seconds.
        Returns:
            The edition that follows the document's. None if Intel has not published one, or if the
            check is disabled.
        Raises:
            CollateralUnusable: Intel has replaced the document's edition with a newer one.
            CollateralUnusable: the list of editions cannot be fetched, or is not valid.
        """
        if not self._checks_numbers:
            return None
        numbers = await self.service.evaluation_numbers()
        verify_evaluation_numbers(numbers, root=root, root_crl=document.root_crl, now=now)
        check_edition(document, numbers, now=now)
        return numbers.next_entry(document.tcb_info.members.evaluation_number)


def configured_source(settings: Collateral) -> CollateralSource | None:
    """Return a client for the configured collateral service, or None."""
    if settings.service_url is None:
        return None
    base_url = settings.service_url.rstrip("/")
    root_crl_url = settings.root_crl_url
    if root_crl_url is None and base_url == INTEL_SERVICE_URL:
        # Intel publishes this list at an address of its own, not at that of the service.
        root_crl_url = INTEL_ROOT_CRL_URL
    service = ServiceSettings(
        base_url=base_url,
        root_crl_url=root_crl_url,
        update=settings.update,
        timeout_s=settings.timeout_s,
    )
    return CollateralSource(service, checks_numbers=settings.check_numbers)


def refresh_rules(settings: Collateral) -> RefreshRules:
    """Return the configured rules for refreshing attestation collateral."""
    return RefreshRules(
        every_s=settings.refresh_s,
        ahead_s=settings.lead_s,
        retry_s=settings.retry_s,
        stale_s=settings.stale_s,
    )
