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

Modules:
    api_keys: API keys of runners: what their owners sign, and what their holders show.
    attestation: a backend's side of attestation: challenges and quotes.
    backend_words: what a backend showed, in words and as JSON.
    backends: granting to exactly the code that a backend proves.
    call_conditions: who may have a program run with an owner's secrets.
    client: one node and one session; where to begin.
    delegation_history: the state of delegations, and lists of them.
    delegations: grant, pass on, take up, revoke.
    encryption: networks, sealing, and requests for keys.
    errors: the error tree of this package.
    escalation: what a session lacks, and the sign-in that would suffice.
    generated_secrets: secrets that a runner makes: types, request, and grant.
    kv: values of a space.
    manifest_grants: the grants that a manifest's DID waits for.
    manifest_subset: whether what is asked for is contained in what is held.
    manifest_words: what a manifest asks for, in words.
    manifests: app manifests, and the grants that they ask for.
    network_pins: the network key that a session saw first.
    node_evidence: a node's own evidence, and what a client demands of it.
    own_packages: whether an import of one of our packages finds ours.
    portable: delegations as JSON, as other clients read and write them.
    printable: untrusted text, made fit for a terminal.
    private_files: files that only this program's user can read, written whole.
    program_grants: grants by which a runner reads private programs.
    programs: programs that runners execute, and what their developers state about them.
    project_names: names of projects, and where their parts are stored.
    public: values of public spaces, without a session.
    published: what a backend publishes about itself.
    receipts: receipts of releases, fetched and checked.
    release_terms: what a node judges backends by.
    run_calls: calling a runner: the token that says who calls.
    run_grants: secrets for named programs and callers.
    run_words: what a run grant admits, in plain words.
    runners: granting to runners.
    secrets: named texts and bytes, sealed in this process.
    session: a key, whose authority it has, and the grants that prove it.
    signed_statements: statements that a DID signs about something of its own.
    spaces: the owner's spaces.
    transport: bounded requests to one node, and which of them are retried.
    wallets: signers of sign-in messages.
    withdrawals: withdrawals for an owner's network.

Folders: sync.

Example:
    async with Client(url) as client:
        await client.sign_in(new_wallet())
        await client.secrets().put("API_KEY", "open sesame")
        assert await client.secrets().get("API_KEY") == "open sesame"
"""

from typing import TYPE_CHECKING, Final

from .own_packages import NEEDED, hidden_by, is_command_line

if not is_command_line() and (_clash := hidden_by(*NEEDED)) is not None:
    raise ImportError(f"{_clash.text}: {_clash.hint}")

if TYPE_CHECKING:
    from .attestation import Attestation as Attestation
    from .backends import Backends as Backends
    from .client import Client as Client
    from .client import NodeInfo as NodeInfo
    from .client import SignIn as SignIn
    from .client import TransportSettings as TransportSettings
    from .delegations import Delegations as Delegations
    from .delegations import allow as allow
    from .encryption import Encryption as Encryption
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
    from .portable import PortableDelegation as PortableDelegation
    from .portable import decode_portable as decode_portable
    from .portable import encode_portable as encode_portable
    from .programs import Programs as Programs
    from .public import PublicKv as PublicKv
    from .receipts import Receipts as Receipts
    from .runners import Runners as Runners
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
    from .withdrawals import Withdrawals as Withdrawals

    __version__: str
else:  # a type checker that saw it would accept every misspelling as a name

    def __getattr__(name: str) -> object:
        """Import a name of `__all__` on first use."""
        if name == "__version__":
            from importlib.metadata import version

            found = version("sealspace")
        elif name in _PLACES:
            from importlib import import_module

            found = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        """List what can be imported from here, loaded or not."""
        return sorted({*globals(), *__all__})


_PLACES: Final = {
    name: module
    for module, names in {
        "attestation": "Attestation",
        "backends": "Backends",
        "client": "Client NodeInfo SignIn TransportSettings",
        "delegations": "Delegations allow",
        "encryption": "Encryption",
        "errors": "DecryptDenied InvalidInput NodeRefused NotFound NotGranted NotSignedIn PreconditionFailed "
        "SealspaceError SessionExpired TransportError Unauthorized",
        "kv": "Kv Value",
        "portable": "PortableDelegation decode_portable encode_portable",
        "programs": "Programs",
        "public": "PublicKv",
        "receipts": "Receipts",
        "runners": "Runners",
        "secrets": "Secret Secrets",
        "session": "Session load_session save_session",
        "spaces": "Spaces",
        "wallets": "Wallet new_wallet wallet_from_key wallet_from_keystore",
        "withdrawals": "Withdrawals",
    }.items()
    for name in names.split()
}

__all__ = list(_PLACES)
__all__ += ["__version__"]
