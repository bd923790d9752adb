"""The server, with its HTTP interface, operations, processes and command line.

The modules directly in this folder are shared by several of its packages. Rules about tokens, keys
and rows belong to the packages below (`capabilities`, `encryption_network`, `spaces`).
"""
