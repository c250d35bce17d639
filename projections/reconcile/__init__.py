"""An order system's own file against the ledger: what either of them lacks, and commands that would mend it."""
