"""The runner: WASI programs of others in confined child processes, with secrets that their owners granted for them.

Modules:
    call_bodies: what a caller asks for.
    environment: the environment variables of a run, and the names that no secret may have.
    executor: running programs; where to begin. Needs the extra `runner`.
    journal: what is remembered over a restart: used tokens, versions, receipts.
    published_programs: finding programs at the node.
    reasons: every reason for which a run fails, with its stable code.
    routes: the HTTP surface.
    run_receipts: receipts of runs, and judging them.
    runs: what a run is asked to do, and what came of it.
    secret_choice: which grant each secret of a run is read by.
    service: one runner: from a call to its answer.
    start: the receipt key of a runner, and the quote that names it.

What runs in the children are the private modules `_run_child` and `_compile_child` and what those import, in processes
that `_template` forks. They import nothing else of this project, and they alone import wasmtime.
"""
