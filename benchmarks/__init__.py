"""What the ledger costs beside its rivals, on the same rows in the same run."""
