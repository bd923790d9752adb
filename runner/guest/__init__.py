"""Execution of WebAssembly programs in confined child processes."""
