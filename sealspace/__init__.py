"""The Python SDK: sign in, keep values and secrets, delegate, grant to backends. It needs no
server.

What programs need most is a name of this package: `from sealspace import Client, SignIn, NotFound`.
Each is imported on first use, so that importing one module of this package never loads the HTTP
stack.

The services of a client, each a class of its own:
    client.kv(space): Kv. Values: one or many, whole or as streams, under conditions, with signed URLs.
    client.secrets(): Secrets. Named texts or bytes, sealed in this process.
    client.spaces(): Spaces. The owner's spaces.
    client.public(space): PublicKv. Values of public spaces; needs no session.
    client.delegations: Delegations. Grant, pass on, take up, revoke, and see what was granted.
    client.encryption: Encryption. Networks, sealing, and requests for keys.
    client.backends: Backends. Granting to exactly the code that a backend proves.
    client.attestation: Attestation. A backend's side of attestation.
    client.programs(): Programs. Programs that runners execute, published and read.
    client.runners: Runners. Granting secrets to runners, for named programs and callers.
    client.receipts: Receipts. Receipts of releases, fetched and checked.
    client.withdrawals: Withdrawals. Withdrawing code, backends and evidence.

Example:
    async with Client(url) as client:
        await client.sign_in(new_wallet())
        await client.secrets().put("API_KEY", "open sesame")
        assert await client.secrets().get("API_KEY") == "open sesame"
"""

from typing import Final

from .own_packages import NEEDED, hidden_by, is_command_line

__version__ = "0.1.0"

if not is_command_line() and (_clash := hidden_by(*NEEDED)) is not None:
    raise ImportError(f"{_clash.text}: {_clash.hint}")

_PLACES: Final = {
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
        "spaces": "PublicKv Spaces",
        "wallets": "Wallet new_wallet wallet_from_key wallet_from_keystore",
    }.items()
    for name in names.split()
}

__all__ = list(_PLACES)
__all__ += ["__version__"]


def __getattr__(name: str) -> object:
    """Import a name of `__all__` on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List what can be imported from here, loaded or not."""
    return sorted({*globals(), *__all__})
