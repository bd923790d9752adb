"""Storage: the store's engines, and the rows of everything that a node keeps.

The layout and meaning of each row are defined here. `capabilities` and the operations of `node`
decide who may write it. The root contains what several folders use.
"""
