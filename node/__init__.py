"""The server: HTTP, operations, processes, configuration and the command line.

The root contains what several folders use. A rule about tokens, keys or rows belongs to the package
that owns it.
"""
