"""A command's work: what is to be done, many episodes in flight, progress, and how it went."""
