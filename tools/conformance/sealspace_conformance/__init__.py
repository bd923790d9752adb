"""A conformance kit for nodes and clients of the protocol in `spec/`."""
