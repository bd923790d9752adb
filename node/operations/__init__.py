"""Operations: what a request does, one module each; each that writes builds its commit.

An operation takes the services and the parameters of a request, and returns a typed outcome or
raises an error with a code. It knows nothing of HTTP: `node.http.messages.refusals` maps codes to
statuses.
"""
