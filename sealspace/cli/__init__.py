"""The program `sealspace`: its root command, and the commands of owners."""
