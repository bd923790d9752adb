"""Settings: the settings themselves, how they are read, which contradict each other, and which are
secret."""
