"""Handlers of the node's HTTP routes.

Each handler reads the request, calls one operation and returns its response.
"""
