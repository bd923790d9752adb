"""Prometheus metrics. Each process writes its own files, and one listener serves them all."""
