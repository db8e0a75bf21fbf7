"""Sampling and evaluation of social agents on SOTOPIA: an overlay on the PyPI package sotopia."""
