"""The processes of a node: supervisor, workers, the single writer; how they start, communicate and
end."""
