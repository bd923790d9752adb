"""The node's HTTP application and listener.

Routes call operations (`node.operations`), which know nothing of HTTP.
"""
