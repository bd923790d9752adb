"""Running WebAssembly programs in confined child processes."""
