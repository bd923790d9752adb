"""The node's API operations, such as storing a value or revoking a delegation.

An operation takes the services and a request's parameters, and returns a typed result or raises an
error with a code. Operations do not depend on HTTP: `node.http.messages.refusals` maps error codes
to statuses.
"""
