"""Routes: one resource a module; `table` lists every route once."""
