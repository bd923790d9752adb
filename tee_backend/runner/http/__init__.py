"""HTTP routes of a runner, for callers, owners and its operator."""
