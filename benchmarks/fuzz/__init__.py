"""Hostile input for what reads the files and answers of others: mutated cases, bounded in time and memory."""

CASE_S = 10.0
CASE_MIB = 256
"""What a case may take."""
