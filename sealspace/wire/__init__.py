"""How the SDK speaks to a node: requests, tokens, sign-in, grants in files."""
