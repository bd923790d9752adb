"""Reference values: what a quote has to show, computed from files before anything runs."""
