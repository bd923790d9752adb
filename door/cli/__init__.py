"""The command `door`."""
