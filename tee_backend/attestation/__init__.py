"""From the bytes of a quote, its event log and its collateral to evidence."""
