"""The owner on this machine: profile, wallet page, and what is demanded of nodes."""
