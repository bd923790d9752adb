"""Prometheus metrics: per-process files in one folder, and the listener that serves them."""
