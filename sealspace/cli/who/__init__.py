"""The commands under *Who*: sign-in, and the owner's profile on this machine."""
