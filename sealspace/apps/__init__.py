"""Grants of rights to applications, backends and runners, and calls to programs at runners."""
