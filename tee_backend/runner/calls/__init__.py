"""Handling of calls to programs, from authorisation and payment to the signed receipt."""
