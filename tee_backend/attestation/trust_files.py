"""Functions that read trust roots and collateral from files."""

from pathlib import Path

from sealspace.private_files import read_setting
from sealspace.service.command_errors import CollateralRefused, ConfigurationError

from .attestation_errors import QuoteRefused
from .collateral import MAX_COLLATERAL_BYTES
from .trust_root import TrustRoot, intel_root, parse_trust_root

_MAX_TRUST_ROOT_BYTES = 16 * 1024


def read_trust_root(path: Path | None) -> TrustRoot:
    """Read a trusted root certificate from a PEM or DER file.

    Without a file, Intel's root is returned.
    """
    if path is None:
        return intel_root()
    try:
        return parse_trust_root(
            read_setting(path, "trust root", ConfigurationError, most_bytes=_MAX_TRUST_ROOT_BYTES)
        )
    except QuoteRefused as error:
        raise ConfigurationError(
            f"{path} is not a root certificate: {error.detail}",
            hint="use a file with one root certificate, PEM or DER",
        ) from None


def read_collateral_file(path: Path) -> bytes:
    """Return the bytes of a collateral file.

    Files that are too large are refused.
    """
    return read_setting(path, "collateral", CollateralRefused, most_bytes=MAX_COLLATERAL_BYTES)
