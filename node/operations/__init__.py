"""Operations of the node, one module for each thing that a request can do.

An operation takes the services and a request's parameters, and returns a typed result or raises an
error with a code. It is independent of HTTP: `node.http.messages.refusals` maps codes to statuses.
"""
