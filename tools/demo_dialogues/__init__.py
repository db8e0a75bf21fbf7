"""The generator of the demo's dialogues: word lists, plots, and how they are played. Only its test imports it."""
