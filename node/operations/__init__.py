"""Operations: what a request does, one module each; each that writes builds its commit.

An operation takes the services and the parameters of a request, and returns a typed outcome or raises an error with a
code. It knows nothing of HTTP: `node.http.messages.refusals` maps codes to statuses.

Modules:
    attempts: read, judge, plan, commit; and again when rows changed in between.
    authorise: from the text of an invocation to a judged call.
    bound_facts: facts that bind a token to one route.
    errors: errors of operations.
    kinds: requests that have a route of their own.
    readiness: whether writes work.
    reading: rows that the parts of an operation ask for, read at one moment.
    table: the services of `/invoke`: abilities, plan and run.

Folders: attestation, delegations, releases, values.
"""
