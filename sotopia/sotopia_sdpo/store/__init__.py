"""Where episodes and profiles live: one interface (base), SQLite and Redis behind it, and ways in and out.

Import from here what other parts need; the backends themselves are loaded when a store is opened.
"""

from sotopia_sdpo.store.opening import open_answers, open_store
from sotopia_sdpo.store.urls import data_home, database_url


__all__ = ["data_home", "database_url", "open_answers", "open_store"]
