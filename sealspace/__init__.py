"""The Python SDK: sign in, keep values and secrets, delegate, grant to backends. It needs no server.

What programs need most is a name of this package: `from sealspace import Client, SignIn, NotFound`. Each is imported on
first use, so that importing one module of this package never loads the HTTP stack.

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

from typing import TYPE_CHECKING, Final

from .own_packages import NEEDED, hidden_by, is_command_line

__version__ = "0.1.0"

if not is_command_line() and (_clash := hidden_by(*NEEDED)) is not None:
    raise ImportError(f"{_clash.text}: {_clash.hint}")

if TYPE_CHECKING:
    from .apps.attestation import Attestation as Attestation
    from .apps.backends import Backends as Backends
    from .apps.programs import Programs as Programs
    from .apps.runners import Runners as Runners
    from .client import Client as Client
    from .client import NodeInfo as NodeInfo
    from .client import SignIn as SignIn
    from .client import TransportSettings as TransportSettings
    from .delegations import Delegations as Delegations
    from .delegations import allow as allow
    from .encryption import Encryption as Encryption
    from .encryption import Withdrawals as Withdrawals
    from .errors import DecryptDenied as DecryptDenied
    from .errors import InvalidInput as InvalidInput
    from .errors import NodeRefused as NodeRefused
    from .errors import NotFound as NotFound
    from .errors import NotGranted as NotGranted
    from .errors import NotSignedIn as NotSignedIn
    from .errors import PreconditionFailed as PreconditionFailed
    from .errors import SealspaceError as SealspaceError
    from .errors import SessionExpired as SessionExpired
    from .errors import TransportError as TransportError
    from .errors import Unauthorized as Unauthorized
    from .kv import Kv as Kv
    from .kv import Value as Value
    from .public import PublicKv as PublicKv
    from .receipts import Receipts as Receipts
    from .secrets import Secret as Secret
    from .secrets import Secrets as Secrets
    from .session import Session as Session
    from .session import load_session as load_session
    from .session import save_session as save_session
    from .spaces import Spaces as Spaces
    from .wallets import Wallet as Wallet
    from .wallets import new_wallet as new_wallet
    from .wallets import wallet_from_key as wallet_from_key
    from .wallets import wallet_from_keystore as wallet_from_keystore
    from .wire.portable import PortableDelegation as PortableDelegation
    from .wire.portable import decode_portable as decode_portable
    from .wire.portable import encode_portable as encode_portable

else:  # a type checker that saw it would accept every misspelling as a name

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


_PLACES: Final = {
    name: module
    for module, names in {
        "apps.attestation": "Attestation",
        "apps.backends": "Backends",
        "client": "Client NodeInfo SignIn TransportSettings",
        "delegations": "Delegations allow",
        "encryption": "Encryption Withdrawals",
        "errors": "DecryptDenied InvalidInput NodeRefused NotFound NotGranted NotSignedIn PreconditionFailed "
        "SealspaceError SessionExpired TransportError Unauthorized",
        "kv": "Kv Value",
        "wire.portable": "PortableDelegation decode_portable encode_portable",
        "apps.programs": "Programs",
        "public": "PublicKv",
        "receipts": "Receipts",
        "apps.runners": "Runners",
        "secrets": "Secret Secrets",
        "session": "Session load_session save_session",
        "spaces": "Spaces",
        "wallets": "Wallet new_wallet wallet_from_key wallet_from_keystore",
    }.items()
    for name in names.split()
}

__all__ = list(_PLACES)
__all__ += ["__version__"]
