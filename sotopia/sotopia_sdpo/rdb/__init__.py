"""Redis snapshots (`.rdb`), read without a server."""
