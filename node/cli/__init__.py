"""The operator's commands `serve`, `doctor`, `config` and `admin`."""
