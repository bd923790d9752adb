"""Settings: what there is to set, how it is read, what contradicts what, and what is secret.

Modules:
    checks: refusing settings that contradict each other.
    loading: reading defaults, a settings file, the environment and flags.
    redaction: keeping secrets out of what is printed, and out of settings files.
    tree: every setting with its type, bounds, default and description.
"""
