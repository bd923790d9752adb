"""The persistent storage of a node.

There are two key-value store engines. The layout and meaning of each row are defined here.
`capabilities` and the operations of `node` decide who may write it. Modules in the root are used by
several of the folders.
"""
