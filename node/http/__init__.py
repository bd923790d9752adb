"""HTTP: the application, the listener below it, messages and routes."""
