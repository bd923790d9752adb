"""A service that executes WASI programs and gives them secrets.

Programs run only in confined child processes, which `guest.template` forks. The modules
`guest.run_child` and `guest.compile_child` run there. Only these modules and what they import from
`guest` import wasmtime, and they import nothing else of this project.
"""
