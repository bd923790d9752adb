"""The command line program `sealspace`: its root command and the commands for owners."""
