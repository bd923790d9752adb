"""Client code for applications, backends and runners."""
