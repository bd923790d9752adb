"""Applications, backends and runners: grants to them, and calls to programs on runners."""
