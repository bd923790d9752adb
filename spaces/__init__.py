"""Persistent storage of a node: two key-value store engines, and the format of each kind of row.

The layout and meaning of each row are defined here. `capabilities` and the operations of `node`
decide who may write it. Modules in the root are used by several of the folders.
"""
