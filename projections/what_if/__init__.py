"""What would have been, had a limit or a stacking rule been another: the log decided again, and nothing written."""
