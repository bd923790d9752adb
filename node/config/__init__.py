"""Settings: what there is to set, where it is read, what contradicts what, and which settings are secret."""
