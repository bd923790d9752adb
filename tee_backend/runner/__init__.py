"""The runner, which executes WASI programs in confined child processes and gives them secrets.

Guests run only in child processes, which `guest.template` forks. The modules `guest.run_child` and
`guest.compile_child` run there. Only these and what they import from `guest` import wasmtime, and
they import nothing else of this project.
"""
