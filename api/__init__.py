"""HTTP: what order systems, operators, auditors and analysts call."""
