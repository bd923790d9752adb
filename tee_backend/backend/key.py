"""The persistent key of a backend.

The key comes from a key service or a key file. The program chooses one of the two once. They give
different keys, and so different DIDs.

    key service    The key follows from the application's id and is on no disk. It is the same on
                   every machine on which the key provider lets this application run, so a copied
                   folder of grants works on those machines and on no others.
    key file       A copy of the file is a copy of the backend's DID. It opens no secret that was
                   granted to approved code: keys are wrapped to a receiver key that approved code
                   makes and never stores. Its holder can read the envelopes and delegate the
                   grants further.

Two programs may run with one key if each has its own folder. Each attests for itself, and a grant
that is delivered reaches one of them.

Example:
    seed = backend_seed(DstackSource.find())
    seed = backend_seed(KeyFile(Path("/data/backend.key")))
"""

import hashlib
import hmac
from dataclasses import field
from pathlib import Path

from capabilities.clock_and_entropy import Entropy, SystemEntropy
from capabilities.frozen import frozen
from sealspace.private_files import make_file, read_file

from ..backend_errors import KeyUnusable
from ..evidence.source import KeySource

KEY_PATH = "sealspace/backend/1"
"""The path that is passed to a key service."""

_SEED_LABEL = b"sealspace/backend-seed/1"
_MAX_FILE_BYTES = 4096


def backend_seed(keys: KeySource) -> bytes:
    """Return the seed of the backend's Ed25519 key.

    The seed has 32 bytes. This function may block. The seed is derived from the service's key, not
    equal to it, so other keys derived from that key reveal nothing about the seed.

    Args:
        keys: the key service or key file.
    Returns:
        32 secret bytes, the same for the same `keys`.
    Raises:
        KeyUnusable: the file contains no key, or cannot be made.
        EvidenceSourceError: the key service returned no key.
    """
    return hmac.digest(_SEED_LABEL, keys.key(KEY_PATH), hashlib.sha256)


@frozen
class KeyFile:
    """A key file for platforms without a key service.

    The file contains 32 random bytes as 64 hex digits, and has mode 0600.

    Attributes:
        path: the file. It is made at the first use and never overwritten.
        entropy: source of the random bytes. Inside a trust domain the host must not be able to
            predict it.
    """

    path: Path
    entropy: Entropy = field(default_factory=SystemEntropy, repr=False)

    def key(self, path: str) -> bytes:
        """Return the 32-byte secret key for a derivation path.

        Args:
            path: name of the key; each path has its own key.
        Raises:
            KeyUnusable: the file is empty, damaged, open to others, or cannot be made.
        """
        return hmac.digest(self._read_or_make_root(), path.encode(), hashlib.sha256)

    def _read_or_make_root(self) -> bytes:
        """Read the key file, or make it if it does not exist."""
        try:
            try:
                data = read_file(self.path, most_bytes=_MAX_FILE_BYTES)
            except FileNotFoundError:
                return self._create()
        except OSError as error:
            raise KeyUnusable(
                f"the key file {self.path} cannot be used: {error.strerror}",
                hint="the key file must be a regular file that this user owns, with mode 0600; to"
                f" check: ls -ld {self.path} {self.path.parent}",
            ) from None
        text = data.removesuffix(b"\n")
        try:
            if len(text) == 64:
                return bytes.fromhex(text.decode("ascii"))
        except ValueError:
            pass
        raise KeyUnusable(
            f"the key file {self.path} contains no key",
            hint="restore the key file from a copy; if you have no copy, remove the key file and"
            " the grants folder, and ask owners to grant again",
        )

    def _create(self) -> bytes:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        root = self.entropy.token(32)
        try:
            make_file(self.path, root.hex().encode() + b"\n")
        except FileExistsError:  # another process made it first; both must use the same key
            return self._read_or_make_root()
        return root
