"""Archives: all rows of a store at one moment and every body they name; backup, restore, check and
moves."""
