"""What an auditor runs offline: the formats of the seal, and the check of a bundle. No database, no server module."""
