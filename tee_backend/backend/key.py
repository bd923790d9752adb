"""A backend's own key, the same after each start: from the platform's key service, or from a file.

Which of the two is the program's choice, made once: they give different keys, so different DIDs.

    key service    the key follows from the application's id. It is on no disk, and the same on every machine on which
                   the key provider lets this application run: a copied folder of grants serves there, and only there.
    key file       a copy of the file is a copy of the backend's DID. It opens no secret that was granted to approved
                   code: keys are wrapped to a receiver key that approved code makes, and that is never stored. It does
                   show its holder the envelopes, and lets them delegate further what was granted.

Two programs may run with one key, each with a folder of its own: each attests for itself, and a
grant that is handed in reaches one of them.

Example:
    seed = backend_seed(DstackSource.find())
    seed = backend_seed(KeyFile(Path("/data/backend.key")))
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from capabilities.clock_and_entropy import Entropy, SystemEntropy
from sealspace.private_files import make_file, read_file

from ..backend_errors import KeyUnusable
from ..evidence.source import KeySource

KEY_PATH: Final = "sealspace/backend/1"
"""Path under which a key service is asked."""

_SEED_LABEL: Final = b"sealspace/backend-seed/1"
_DIGITS: Final = 64
_MAX_FILE_BYTES: Final = 4096


def backend_seed(keys: KeySource) -> bytes:
    """Return the 32-byte seed of the backend's Ed25519 key. May block.

    It is not the service's key itself: what else is derived from that one tells nothing about this.

    Raises:
        KeyUnusable: the file holds no key, or cannot be made.
        EvidenceSourceError: the service gives none.
    """
    return hmac.digest(_SEED_LABEL, keys.key(KEY_PATH), hashlib.sha256)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key source for platforms without a key service: 32 random bytes in a file, as 64 hex
    digits; mode 0600.

    Attributes:
        path: the file; made at the first use, and never overwritten.
        entropy: what it is made of; inside a trust domain it has to be one the host cannot foresee.
    """

    path: Path
    entropy: Entropy = field(default_factory=SystemEntropy, repr=False)

    def key(self, path: str) -> bytes:
        """Return 32 secret bytes for a path; as `KeySource.key`.

        Raises:
            KeyUnusable: the file is empty, damaged, open to others, or cannot be made.
        """
        return hmac.digest(self._root(), path.encode(), hashlib.sha256)

    def _root(self) -> bytes:
        try:
            try:
                data = read_file(self.path, most_bytes=_MAX_FILE_BYTES)
            except FileNotFoundError:
                return self._made()
        except OSError as error:
            raise KeyUnusable(
                f"the key file {self.path} cannot be used: {error.strerror}",
                hint=(
                    f"make it an ordinary file of this user's with mode 0600: ls -ld {self.path}"
                    f" {self.path.parent}"
                ),
            ) from None
        text = data.removesuffix(b"\n")
        try:
            if len(text) == _DIGITS:
                return bytes.fromhex(text.decode("ascii"))
        except ValueError:
            pass
        what = "is empty" if not data else "holds no key"
        raise KeyUnusable(
            f"the key file {self.path} {what}",
            hint=(
                "put back a copy; without one remove the file and the folder of grants, and have"
                " owners grant anew"
            ),
        )

    def _made(self) -> bytes:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        root = self.entropy.token(32)
        try:
            make_file(self.path, root.hex().encode() + b"\n")
        except FileExistsError:  # another process was first
            return self._root()
        return root
