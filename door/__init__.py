"""A server with the API of Vault and OpenBao, on the side of the client (spec/door.md).

Programs that know this API read secrets through it. The door opens the envelopes itself, so the
node sees neither a value nor this API.
"""
