"""Python SDK for storing secrets and sharing them with attested backends.

It also signs in owners, stores plain values and delegates rights.

It needs no server packages. The most common names can be imported from this package:
`from sealspace import Client, SignIn, NotFound`. Each name is imported on first use, so importing
one module of this package never loads the HTTP library.

The services of a client, each a class of its own:
    client.kv(space): Kv. Values: singly or in batches, as streams, under conditions.
    client.replica(folder, prefix): Replica. A durable local copy of values.
    client.sql(database): Sql. SQLite databases: queries, changes in transactions, copies.
    client.secrets(): Secrets. Named texts or bytes, encrypted in this process.
    client.sharing: Sharing. Secrets that people share with each other.
    client.teams: Teams. Teams with members, who read and replace the same secrets.
    client.team_moves: TeamMoves. Move a team to another wallet.
    client.access: Access. Who can read and replace a secret.
    client.contacts: Contacts. The owner's names for DIDs.
    client.spaces(): Spaces. The owner's spaces.
    client.public(space): PublicKv. Values of public spaces; needs no session.
    client.delegations: Delegations. Grant, accept and revoke rights, and list grants.
    client.encryption: Encryption. Networks, sealing and decryption.
    client.network_keys: KeyRotation. Replacing and retiring the keys of networks.
    client.backends: Backends. Grants to backends whose code was verified.
    client.attestation: Attestation. A backend's side of attestation.
    client.programs(): Programs. Programs for runners: publish and read them.
    client.runners: Runners. Grants of secrets to runners, for named programs and callers.
    client.receipts: Receipts. Receipts of key releases.
    client.withdrawals: Withdrawals. Withdrawing code, backends and evidence.

Example:
    async with Client(url) as client:
        await client.sign_in(new_wallet())
        await client.secrets().put("API_KEY", "open sesame")
        assert await client.secrets().get("API_KEY") == "open sesame"
"""

from .own_packages import NEEDED, hidden_by, is_command_line

__version__ = "0.1.0"

if not is_command_line() and (_clash := hidden_by(*NEEDED)) is not None:
    raise ImportError(f"{_clash.text}: {_clash.hint}")

_PLACES = {
    "Access": "giving.access",
    "Attestation": "apps.attestation",
    "Backends": "apps.backends",
    "Contacts": "apps.contacts",
    "KeyRotation": "apps.key_rotation",
    "Client": "client",
    "NodeInfo": "client",
    "SignIn": "client",
    "TransportSettings": "client",
    "Delegations": "delegations",
    "allow": "delegations",
    "Encryption": "encryption",
    "Withdrawals": "encryption",
    "DecryptDenied": "errors",
    "InvalidInput": "errors",
    "NodeRefused": "errors",
    "NotFound": "errors",
    "NotGranted": "errors",
    "NotSignedIn": "errors",
    "PreconditionFailed": "errors",
    "SealspaceError": "errors",
    "SessionExpired": "errors",
    "TransportError": "errors",
    "Unauthorized": "errors",
    "Kv": "kv",
    "Value": "kv",
    "PortableDelegation": "wire.portable",
    "decode_portable": "wire.portable",
    "encode_portable": "wire.portable",
    "Programs": "apps.programs",
    "Receipts": "receipts",
    "Replica": "apps.replica",
    "Runners": "apps.runners",
    "Secret": "secrets",
    "Secrets": "secrets",
    "Session": "session",
    "load_session": "session",
    "save_session": "session",
    "Sharing": "giving.copies",
    "TeamMoves": "giving.teams.team_moves",
    "Teams": "giving.teams.teams",
    "PublicKv": "spaces",
    "Spaces": "spaces",
    "Sql": "sql",
    "Wallet": "wallets",
    "new_wallet": "wallets",
    "wallet_from_key": "wallets",
    "wallet_from_keystore": "wallets",
}

__all__ = list(_PLACES)
__all__ += ["__version__"]


def __getattr__(name: str) -> object:
    """Import an exported name when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    exported = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = exported
    return exported


def __dir__() -> list[str]:
    """Return all names that this module exports."""
    return sorted({*globals(), *__all__})
