"""The commands under *Who*: sign-in, and the console."""
