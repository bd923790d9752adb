"""The node's Prometheus metrics.

Each process writes its own files, and one listener serves all of them.
"""
