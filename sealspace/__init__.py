"""Python SDK for storing secrets and sharing them with attested backends.

It also signs in owners, stores plain values and delegates rights.

It needs no server packages. The most common names can be imported from this package:
`from sealspace import Client, SignIn, NotFound`. Each name is imported on first use, so importing
one module of this package never loads the HTTP library.

The services of a client, each a class of its own:
    client.kv(space): Kv. Values: singly or in batches, as streams, under conditions.
    client.sql(database): Sql. SQLite databases: queries, changes in transactions, copies.
    client.secrets(): Secrets. Named texts or bytes, encrypted in this process.
    client.sharing: Sharing. Secrets that people share with each other.
    client.spaces(): Spaces. The owner's spaces.
    client.public(space): PublicKv. Values of public spaces; needs no session.
    client.delegations: Delegations. Grant, accept and revoke rights, and list grants.
    client.encryption: Encryption. Networks, sealing and decryption.
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
    name: module
    for module, names in {
        "apps.attestation": "Attestation",
        "apps.backends": "Backends",
        "client": "Client NodeInfo SignIn TransportSettings",
        "delegations": "Delegations allow",
        "encryption": "Encryption Withdrawals",
        "errors": (
            "DecryptDenied InvalidInput NodeRefused NotFound NotGranted NotSignedIn"
            " PreconditionFailed SealspaceError SessionExpired TransportError Unauthorized"
        ),
        "kv": "Kv Value",
        "wire.portable": "PortableDelegation decode_portable encode_portable",
        "apps.programs": "Programs",
        "receipts": "Receipts",
        "apps.runners": "Runners",
        "secrets": "Secret Secrets",
        "session": "Session load_session save_session",
        "apps.sharing": "Sharing",
        "spaces": "PublicKv Spaces",
        "sql": "Sql",
        "wallets": "Wallet new_wallet wallet_from_key wallet_from_keystore",
    }.items()
    for name in names.split()
}

__all__ = list(_PLACES)
__all__ += ["__version__"]


def __getattr__(name: str) -> object:
    """Import an exported name when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return all names that this module exports."""
    return sorted({*globals(), *__all__})
