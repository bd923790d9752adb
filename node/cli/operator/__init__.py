"""Commands of operators: they work on a data folder or a database.

Modules:
    admin: `sealspace admin owners`.
    attest: `sealspace attest`.
    attest_verify: `sealspace attest verify`.
    audit: `sealspace audit`.
    collateral: `sealspace collateral`.
    diagnoses: what `doctor` says about databases and buckets.
    doctor: `sealspace doctor`.
    migrate_objects: `sealspace migrate-objects`.
    migrate_store: `sealspace migrate-store`.
    opened_store: the store for a command, with or without a running node.
    release: `sealspace release`.
    serve: `sealspace serve`.
    settings: options that several commands share.
    settings_table: the table of settings.
    storekeeper: `sealspace storekeeper`, started by `serve`.
    withdraw: `sealspace withdraw`.
    worker: `sealspace worker`, started by `serve`.
"""
