"""The node's platform: its quotes, its root secret and the operator's secret."""
