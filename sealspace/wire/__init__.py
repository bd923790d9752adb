"""The client side of the node protocol.

These modules contain requests, tokens, sign-in and portable grants.
"""
