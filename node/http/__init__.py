"""The HTTP application, its listener, and limits on connections.

Routes call operations (`node.operations`), which know nothing of HTTP.
"""
