"""Signs the claims in its input as a JWT (HS256) with the secret JWT_KEY."""

import base64
import hmac
import json
import os
import sys

from wit_world import exports


def encode(data: bytes) -> str:
    """Return data in base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Run(exports.Run):
    """The entry point of the program, `wasi:cli/run`."""

    def run(self) -> None:
        """Sign the claims."""
        header, claims = {"alg": "HS256", "typ": "JWT"}, json.load(sys.stdin)
        text = ".".join(encode(json.dumps(part).encode()) for part in (header, claims))
        signature = hmac.digest(os.environ["JWT_KEY"].encode(), text.encode(), "sha256")
        sys.stdout.write(f"{text}.{encode(signature)}")
        sys.stdout.flush()
