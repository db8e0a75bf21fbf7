"""Scores of a session on SOTOPIA's seven dimensions, by a model. Imports play and below."""
