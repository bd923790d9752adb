"""HTTP: the application, its listener, and the bounds on connections.

What a route does is an operation (`node.operations`); nothing outside this folder knows of HTTP.

Modules:
    acceptor: how a worker takes its share of new connections.
    app: the web application, bound to one node's services.
    connection_counts: connections of each worker, in shared memory.
    listener: connections with the protocol's bounds on headers.

Folders: messages, routes.
"""
