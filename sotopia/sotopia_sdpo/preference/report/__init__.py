"""A file of preference pairs as one self-contained HTML page."""
