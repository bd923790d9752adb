"""The server: HTTP, operations, processes, configuration and the command line.

The root contains what several folders use. A rule about tokens, keys or rows belongs to the package that owns it.

Modules:
    cohort: cohort scheduling: requests that are ready take each step together.
    console_files: the files of the console, and the headers that go with them.
    counts: the interface by which requests are counted.
    document_cache: documents known to be stored beside receipts.
    errors: errors that prevent a node or a command from continuing.
    listening_socket: the socket that all workers share.
    logs: JSON lines on standard error.
    rates: token buckets for each client.
    refusal: the base class of errors that end a request.
    release_terms: the terms of release that are in force.
    services: the dependencies of every handler and operation.
    term_files: files with terms of release that a command names.

Folders: cli, collateral, config, housekeeping, http, metrics, operations, platform, processes, storage.
"""

__version__ = "0.1.0"
