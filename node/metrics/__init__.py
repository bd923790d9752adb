"""Metrics: numbers of all processes in files of one folder, and their text for Prometheus."""
