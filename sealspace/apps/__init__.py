"""Client code for applications, backends, runners and people."""
