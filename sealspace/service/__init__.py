"""Modules that commands and servers share, below the command line.

They contain the errors that stop a program, its listening socket, its open files, and the files
with terms that it reads at its start.
"""
