"""The read models: folds of the log, and the runner that keeps them."""
