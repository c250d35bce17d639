"""What the log says of a past moment: timelines, states and their differences, and why something was refused.

Everything here is computed from events and changes nothing. Two questions are kept apart. What was *true* at a moment
is the fold of what had occurred by then, whenever it was recorded: imported history and late messages count. What was
*known* is the fold of what the log held: what the ledger itself would have answered.
"""
