"""A command's work: what is to be done, many in flight, progress, how it went. Imports judge and below."""
