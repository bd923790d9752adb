"""Commands of owners; they need the base install alone."""
