"""HTTP routes of a runner for callers, owners and the operator."""
