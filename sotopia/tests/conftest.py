"""Settings of all tests of the sampling package."""

from hypothesis import settings


# A loaded machine is slow, not wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
