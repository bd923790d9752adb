"""The use cases: one module each; every writing one builds its commit.

An operation takes the services and what the request says, calls the rooms below, and returns a typed outcome or
raises one of the errors that `node.http.messages.problems` maps to an answer. It knows nothing of HTTP.
"""
