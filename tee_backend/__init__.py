"""TDX quotes and evidence: verifying them, and being a backend that attests.

Which evidence suffices for a release is decided elsewhere: `encryption_network.gate`.

Modules:
    backend: attest, then read what owners granted; where to begin.
    backend_key: a backend's own key, from the platform's key service or from a file.
    errors: the errors of keeping a key and grants.
    grant_folder: the folder in which a backend keeps what it was granted.
    held_grants: the bounded set of grants that a backend keeps.
    inspection: verifying what a backend published, on an owner's machine.
    listener: bounded connections, on which the node and runners serve.
    node_verifier: verifying a node's own evidence.
    publishing: a backend's HTTP routes, in aiohttp and in ASGI: evidence, and taking grants.
    rates: what clients and payers have used lately, in bounded tables.
    receipt_check: judging a receipt again, offline.

Folders: attestation, evidence, runner.
"""
