"""The commands of operators: `serve`, `doctor`, `config` and `admin`."""
