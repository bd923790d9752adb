"""The Python SDK: sign in, keep values and secrets, delegate, grant to backends. It needs no server.

`from sealspace import Client` is the short way to `sealspace.client.Client`; it is imported on first use, so that
importing one module of this package never loads the HTTP stack.

Modules:
    attestation: a backend's side of attestation: challenges and quotes.
    backend_words: what a backend showed, in words and as JSON.
    backends: granting to exactly the code that a backend proves.
    client: one node and one session; where to begin.
    delegation_history: the state of delegations, and lists of them.
    delegations: grant, pass on, take up, revoke.
    encryption: networks, sealing, and requests for keys.
    errors: the error tree of this package.
    kv: values of a space.
    manifests: app manifests, and the grants that they ask for.
    network_pins: the network key that a session saw first.
    node_evidence: a node's own evidence, and what a client demands of it.
    portable: delegations as JSON, as other clients read and write them.
    printable: untrusted text, made fit for a terminal.
    public: values of public spaces, without a session.
    published: what a backend publishes about itself.
    receipts: receipts of releases, fetched and checked.
    secrets: named texts, sealed in this process.
    session: a key, whose authority it has, and the grants that prove it.
    spaces: the owner's spaces.
    transport: bounded requests to one node, and which of them are retried.
    wallets: signers of sign-in messages.
    withdrawals: withdrawals for an owner's network.

Example:
    async with Client("http://127.0.0.1:8000") as client:
        await client.sign_in(wallet)
        await client.secrets().put("API_KEY", "…")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client as Client
else:  # a type checker that saw it would accept every misspelling as a name

    def __getattr__(name: str) -> object:
        """Load `Client` on first use."""
        if name == "Client":
            from .client import Client

            return Client
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Client"]
