"""Reading of requests and making of answers: tokens, bodies, queries, errors.

Nothing here decides about authority.
"""
