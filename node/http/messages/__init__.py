"""Request parsing and response construction.

No authorisation decision is made here.
"""
