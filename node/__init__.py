"""The server: HTTP, use cases, processes, configuration and the command line.

Public modules: app, cli, config, embedded, errors, problems, services, settings_table, supervisor.
"""

__version__ = "0.1.0"
