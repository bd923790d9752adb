"""Confinement of child processes: privileges, limits, folders and system calls.

The runner and the SQL processes of a node use it, so it imports nothing of the project. A child
imports everything it needs before it confines itself. Afterwards it may be unable to read the files
of its modules.
"""
