"""The server: HTTP, operations, processes, configuration and the command line.

In the root is what several folders use. A rule about tokens, keys or rows belongs to the package below that owns it.

Modules:
    admin_key: the operator's secret, compared in constant time.
    cohort: cohort scheduling: requests that are ready take each step together.
    counts: the interface by which requests are counted.
    document_cache: documents known to be stored beside receipts.
    errors: what keeps a node or a command from going on.
    listening_socket: the socket that all workers share.
    logs: JSON lines on standard error.
    rates: token buckets for each client.
    refusal: the base of what ends a request.
    release_terms: the terms of release that are in force.
    services: what every handler and operation works with.
    term_files: files with terms of release that a command names.

Folders: cli, collateral, config, housekeeping, http, metrics, operations, platform, processes, storage.
"""

__version__ = "0.1.0"
