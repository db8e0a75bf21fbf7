"""A file of preference pairs as one HTML page."""
