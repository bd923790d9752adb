"""The runner's execution engine: WASI programs in confined child processes, under limits.

Modules:
    environment: the environment variables of a run, and the names that no secret may have.
    executor: running programs; where to begin. Needs the extra `runner`.
    reasons: every reason for which a run fails, with its stable code.
    runs: what a run is asked to do, and what came of it.

What runs in the children are the private modules `_run_child` and `_compile_child` and what those import. They import
nothing else of this project, and they alone import wasmtime.
"""
