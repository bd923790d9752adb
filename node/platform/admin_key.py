"""Verification of the operator's secret.

The secret is stored as a digest and compared in constant time.
"""

from dataclasses import field
from hmac import compare_digest
from pathlib import Path

from blake3 import blake3

from capabilities.frozen import frozen
from sealspace.private_files import read_setting
from sealspace.service.command_errors import ConfigurationError

from ..config.tree import Admin

_MAX_BYTES = 4096


@frozen
class AdminKey:
    """The digest of the operator's secret."""

    digest: bytes = field(repr=False)

    def opens(self, header: str) -> bool:
        """Return whether an `Authorization` header contains the operator's secret.

        The comparison takes constant time, which depends only on the length of the header.
        """
        # Digests have equal length, so the time does not reveal the secret's length either.
        return compare_digest(
            blake3(header.encode("utf-8", "surrogateescape")).digest(), self.digest
        )


def load_admin_key(admin: Admin) -> AdminKey | None:
    """Load the digest of the operator's secret from the settings.

    Return None if the secret is missing or empty.
    """
    secret = admin.secret.encode("utf-8", "surrogateescape") if admin.secret else b""
    if admin.secret_file is not None:
        path = Path(admin.secret_file)
        secret = read_setting(path, "admin.secret_file", ConfigurationError, most_bytes=_MAX_BYTES)
        if len(secret) > _MAX_BYTES:  # of a longer file, one byte more than the limit was read
            raise ConfigurationError(
                f"admin.secret_file: the file {path} has more than {_MAX_BYTES} bytes",
                hint=f"check that admin.secret_file names the right file: ls -l {path}",
            )
        secret = secret.strip()
    if not secret:
        return None
    # The digest is that of the whole header that the operator has to send.
    return AdminKey(blake3(b"Bearer " + secret).digest())
