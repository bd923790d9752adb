"""The groups of checks, each on one subject."""
