"""Client side of the node protocol: requests, tokens, sign-in and portable grants."""
