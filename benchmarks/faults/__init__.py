"""Faults on purpose: one kind a file; `__main__` tries them and prints what was lost, doubled or wrong."""
