"""Storage of a node: two store engines, and the format of every row.

The layout and meaning of each row are defined here. `capabilities` and the operations of `node`
decide who may write it. Modules in the root are used by several of the folders.
"""
