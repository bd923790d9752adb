"""The node's platform: its own quotes, its root secret and the operator's secret."""
