"""Many random calls against a server that misbehaves, and whether the books agree with what it saw: ``make soak``."""
