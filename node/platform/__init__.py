"""What the machine gives the node: quotes of its own, the root secret, the operator's secret."""
