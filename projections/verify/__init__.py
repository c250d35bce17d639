"""Whether the ledger keeps its promises, worked out again from the log alone by a second reading of it."""
