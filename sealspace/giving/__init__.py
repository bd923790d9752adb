"""Giving secrets to people, machines, code and runs, and saying who has them."""
