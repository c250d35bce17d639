"""The seal: a Merkle tree over the log, signed checkpoints of it, and proofs from it (docs/audit.md)."""
