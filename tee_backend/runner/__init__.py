"""The runner: WASI programs of others in confined child processes, with secrets that their owners
granted for them.

What runs in the children are the private modules `_run_child` and `_compile_child` and what those
import, in processes that `_template` forks. They import nothing else of this project, and they
alone import wasmtime.
"""
