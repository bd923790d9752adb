"""Who may do what: identifiers, tokens, signatures and the rules of delegation chains. Pure: no
I/O, no clock.

What is registered, revoked or used already is state: `spaces.grants` stores it, and the caller
passes it in.
"""
