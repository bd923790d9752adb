"""The runner: WASI programs of others in confined child processes, with secrets that their owners granted for them.

Modules:
    answers: what a caller is answered.
    api_bodies: what the holder of an API key asks for.
    api_routes: the HTTPS API, and API keys.
    call_bodies: what a caller asks for.
    calls: from the door to the answer; who pays, now or later, and what a crash leaves.
    environment: the environment variables of a run, and the names that no secret may have.
    executor: running programs; where to begin. Needs the extra `runner`.
    generate_routes: the route by which owners have secrets made.
    generated_secrets: secrets that are made here.
    journal: what is remembered over a restart: used tokens, versions, receipts.
    kept_keys: API keys that owners made.
    ledger: accounts and jobs.
    operator_routes: what the operator asks, on a socket in the runner's folder.
    outbound: the requests of programs over HTTPS.
    outbound_requests: what a program may ask for.
    prices: what a run costs.
    private_programs: programs that developers granted to this runner alone.
    published_programs: finding programs at the node.
    reasons: every reason for which a run fails, with its stable code.
    routes: the HTTP surface.
    run_receipts: receipts of runs, and judging them.
    runs: what a run is asked to do, and what came of it.
    sealed_rows: rows of the journal that the host cannot edit or move.
    secret_choice: which grant each secret of a run is read by.
    secret_tags: the tags of secrets that were made here.
    service: one runner: who calls, and from a job to its receipt.
    shares: fair shares of what the callers of a runner have in common.
    start: the receipt key of a runner, and the quote that names it.

What runs in the children are the private modules `_run_child` and `_compile_child` and what those import, in processes
that `_template` forks. They import nothing else of this project, and they alone import wasmtime.
"""
