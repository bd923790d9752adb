"""The commands under *Share*: grants, teams, tokens, networks and receipts."""
