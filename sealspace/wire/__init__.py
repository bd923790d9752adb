"""The SDK's protocol with a node: requests, tokens, sign-in, and portable grants."""
