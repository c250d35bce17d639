"""The read models: each a class in a file of its own, and what several of them use (``moves``, ``bulk``)."""
