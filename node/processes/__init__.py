"""The processes of a node: supervisor, workers, the single writer; how they start, communicate and end.

Modules:
    child: one process that the supervisor starts and restarts.
    clock_check: whether the machine's clock is plausible.
    event_loop: uvloop where it is installed, else asyncio's.
    launch: messages between the supervisor and its processes.
    ownership: whether the six package names are ours.
    service_manager: what the service manager hears: ready, stopping.
    start: opening a store: schema, identity, release record.
    storekeeper: running the single writer process of the store.
    supervisor: one socket, one writer, N workers.
    worker: one worker process.
"""
