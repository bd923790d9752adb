"""Commands of operators: they work on a data folder or a database.

Modules:
    apart: reading an LMDB file that may be damaged, in a process of its own.
    audit: `sealspace admin audit`.
    backup: `sealspace admin backup`.
    check: `sealspace admin check`.
    collateral: `sealspace admin collateral`.
    config: `sealspace config show` and `init`.
    interruption: signals that end a command as Ctrl-C does.
    migrate_objects: `sealspace admin migrate-objects`.
    migrate_store: `sealspace admin migrate-store`.
    node_checks: what `doctor` checks on a node's machine.
    opened_store: the store for a command, with or without a running node.
    owners: `sealspace admin owners`.
    passphrase: a passphrase from a file or a person.
    quota: `sealspace admin quota`.
    receipts: `sealspace admin receipts`.
    release: `sealspace admin release`.
    restore: `sealspace admin restore`.
    serve: `sealspace serve`.
    settings: options that several commands share.
    settings_table: the table of settings.
    storekeeper: `sealspace storekeeper`, started by `serve`.
    withdraw: `sealspace admin withdraw`.
    worker: `sealspace worker`, started by `serve`.
"""
