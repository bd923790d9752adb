"""Parsing of HTTP requests and construction of HTTP responses.

No authorisation decision is made here.
"""
