"""Settings: the settings themselves, how they are read, which contradict each other, and which are secret.

Modules:
    checks: refusing settings that contradict each other.
    loading: reading defaults, a settings file, the environment and flags.
    redaction: keeping secrets out of what is printed, and out of settings files.
    tree: every setting with its type, bounds, default and description.
"""
