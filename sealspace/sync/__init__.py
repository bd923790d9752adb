"""The SDK without `await`: for Flask and Django, for scripts and notebooks, for programs with
threads.

Every name of `sealspace` is here too, with the same arguments, results and errors; methods wait for
their result, and lists are plain iterators. Facts, errors, wallets and sessions are the same
classes: `sealspace.sync.Value` is `sealspace.kv.Value`. There is one implementation, the
asynchronous one; what is here hands each call to an event loop that a client runs in a thread of
its own.

Example:
    from sealspace.sync import Client, new_wallet

    with Client("http://127.0.0.1:8000") as client:
        client.sign_in(new_wallet())
        client.kv().put("greeting", "hello")
        print(client.kv().get("greeting").body)
        client.secrets().put("API_KEY", "open sesame")
        for key in client.kv().list():
            print(key)

What a program may rely on:
    - Threads: any number of them may use one client at once.
    - A running event loop, as in a notebook, does not matter. A call inside a coroutine works, but blocks the loop of
      this coroutine: there, use the asynchronous client.
    - Ctrl-C, and whatever else interrupts the waiting, cancels the call; the client remains usable. A signal's handler
      raises no OSError for that: at an unlucky moment asyncio suppresses it.
    - After `os.fork` (multiprocessing, `gunicorn --preload`) the client works in both processes; the child makes
      connections of its own. What one of them signs in to or takes up later, the other does not have.
    - A program that ends without `close` does not hang; a client that nobody refers to any more closes itself.
    - `progress` is called in the caller's thread, beside the transfer; what it raises cancels the call. Wallets,
      verifiers and what is uploaded are asked in threads of the client: a wallet or a verifier may not use the client
      that asks it.
"""

from typing import Final

import sealspace

_SERVICES: Final = (
    "Attestation Backends Delegations Encryption Kv Programs PublicKv Receipts Runners Secrets"
    " Spaces Withdrawals deliver fetch_evidence"
)
_OWN: Final = {"Client": "client", **dict.fromkeys(_SERVICES.split(), "services")}

__all__ = list(dict.fromkeys((*sealspace.__all__, *_OWN)))


def __getattr__(name: str) -> object:
    """Import a name on first use: what is synchronous from here, everything else from
    `sealspace`."""
    if name in _OWN:
        from importlib import import_module

        found = getattr(import_module(f"{__name__}.{_OWN[name]}"), name)
    elif name in __all__:
        found = getattr(sealspace, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List what can be imported from here, loaded or not."""
    return sorted({*globals(), *__all__})
