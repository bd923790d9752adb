#!/bin/sh
# Makes the secrets of compose.yaml in ./secrets, once, each readable by the one user whose service reads it; as root.
#
#   root_secret         the node's identity: keep a copy of it apart from the machine, before anything is sealed
#   database_password   for the database; database_pgpass is the same for the node, as PostgreSQL's clients read it
set -eu

mkdir -m 0700 secrets
umask 077
head -c 32 /dev/urandom > secrets/root_secret
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > secrets/database_password
{ printf 'database:5432:sealspace:sealspace:'; cat secrets/database_password; echo; } > secrets/database_pgpass
chmod 0400 secrets/*
chown "${NODE_USER:-10001}" secrets/root_secret secrets/database_pgpass
chown "${DATABASE_USER:-999}" secrets/database_password
