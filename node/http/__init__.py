"""The HTTP application, its listener, and the limits on connections.

Routes call operations (`node.operations`), which know nothing of HTTP.
"""
