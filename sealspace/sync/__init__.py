"""Synchronous SDK for Flask, Django, scripts, notebooks and threaded programs.

This package has every name of `sealspace`, with the same arguments, results and errors. Methods
wait for their result, and lists are plain iterators. Data classes, errors, wallets and sessions are
the same classes: `sealspace.sync.Value` is `sealspace.kv.Value`. Only the asynchronous client has
an implementation; each call here runs on an event loop in a thread of the client.

Example:
    from sealspace.sync import Client, new_wallet

    with Client("http://127.0.0.1:8000") as client:
        client.sign_in(new_wallet())
        client.kv().put("greeting", "hello")
        print(client.kv().get("greeting").body)
        client.secrets().put("API_KEY", "open sesame")
        for key in client.kv().list():
            print(key)

Guarantees:
    - Threads: any number of threads may use one client at once.
    - Event loops: a running loop, as in a notebook, does not matter. A call in a coroutine works,
      but blocks that coroutine's loop; use the asynchronous client there.
    - Interrupts: Ctrl-C, and any exception that interrupts the wait, cancels the call; the client
      stays usable. A signal handler must not raise OSError, which asyncio sometimes suppresses.
    - Forks: after `os.fork` (multiprocessing, `gunicorn --preload`) the client works in both
      processes, and the child opens its own connections. Later sign-ins and accepted grants of one
      process do not reach the other.
    - Exit: a program that ends without `close` does not hang. A client without references closes
      itself.
    - Callbacks: `progress` runs in the caller's thread, and an exception in it cancels the call.
      Wallets, verifiers and upload sources run in threads of the client; a wallet or a verifier
      must not use the client that calls it.
"""

import sealspace

_OWN = {
    "Client": "client",
    "Access": "services",
    "Attestation": "services",
    "Backends": "services",
    "Contacts": "services",
    "Delegations": "services",
    "Encryption": "services",
    "KeyRotation": "services",
    "Kv": "services",
    "Programs": "services",
    "PublicKv": "services",
    "Receipts": "services",
    "Replica": "services",
    "Runners": "services",
    "Secrets": "services",
    "Sharing": "services",
    "TeamMoves": "services",
    "Teams": "services",
    "Spaces": "services",
    "Sql": "services",
    "Withdrawals": "services",
    "deliver": "services",
    "fetch_evidence": "services",
}

__all__ = list(dict.fromkeys((*sealspace.__all__, *_OWN)))


def __getattr__(name: str) -> object:
    """Import an exported name on first use.

    The synchronous implementation is preferred.
    """
    if name in _OWN:
        from importlib import import_module

        exported = getattr(import_module(f"{__name__}.{_OWN[name]}"), name)
    elif name in __all__:
        exported = getattr(sealspace, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = exported
    return exported


def __dir__() -> list[str]:
    """Return all names that this module exports.

    Names that are not loaded yet are included.
    """
    return sorted({*globals(), *__all__})
