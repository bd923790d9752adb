"""The Python SDK: sign in, keep values and secrets, delegate, take up a delegation.

Public modules: attestation, client, delegation_history, delegations, encryption, errors, kv, manifests, network_pins,
node_evidence, portable, printable, public, secrets, session, spaces, transport, wallets.

`from sealspace import Client` is the short way to `sealspace.client.Client`; it is looked up when it is first asked
for, so that importing one module of this package never loads the HTTP stack.

Example:
    async with Client("http://127.0.0.1:8000") as client:
        await client.sign_in(wallet)
        await client.secrets().put("API_KEY", "…")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client as Client
else:  # a type checker that saw it would take every misspelling for a name

    def __getattr__(name: str) -> object:
        """Load `Client` on first use."""
        if name == "Client":
            from .client import Client

            return Client
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Client"]
