"""Who may run what, who pays, and what remains of it."""
