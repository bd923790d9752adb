"""Metrics: numbers of all processes in one shared-memory table, and their text for Prometheus."""
