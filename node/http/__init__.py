"""HTTP: the application, its listener, and the bounds on connections.

What a route does is an operation (`node.operations`); nothing outside this folder knows of HTTP.
"""
