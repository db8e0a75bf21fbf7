"""Environments: worlds in which one agent acts by text, and which answer and score it themselves."""
