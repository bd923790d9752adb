"""The commands under *Use*: running programs with secrets, also for agents."""
