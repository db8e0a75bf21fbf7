"""Logs of agents' runs: a reader a format, their messages as our turns, and pairs of failed and successful trials."""
