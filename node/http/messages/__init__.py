"""Reading of requests, and creation of responses.

Nothing here decides about authority.
"""
