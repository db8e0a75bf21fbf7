"""What a run's database holds, as far as the loop has to know: how many episodes of a tag, and whether a world."""

from collections.abc import Iterable, Mapping

from sotopia_sdpo.errors import UserError


class Database:
    """The database of a run, which need not be there."""

    def __init__(self, url: str) -> None:
        """Take its address."""
        self.url = url

    def counts(self, tags: Iterable[str]) -> list[Mapping[str, int]]:
        """Count the episodes of each tag by status."""
        wanted = list(tags)
        found = self._read()[1] if wanted else {}
        return [found.get(tag, {}) for tag in wanted]

    def took(self, tags: Iterable[str]) -> dict[str, int]:
        """Return how many episodes some tags have, and how many answers of models these took; {} for no tags."""
        from sotopia_sdpo.store import open_store

        wanted = list(tags)
        if not wanted:
            return {}
        with open_store(self.url, create=False) as store:
            usages = [episode.usage for tag in wanted for episode in store.episodes(tag)]
        calls = [part["calls"] for usage in usages for part in usage.values() if isinstance(part, dict)]
        return {"episodes": len(usages), "calls": sum(calls)}

    def has_world(self) -> bool:
        """Return whether there are scenarios."""
        return self._read()[0] > 0

    def _read(self) -> tuple[int, dict[str, dict[str, int]]]:
        """Return the number of scenarios, and of episodes by tag and status."""
        from sotopia_sdpo.store import open_store

        try:
            with open_store(self.url, create=False) as store:
                counts = store.counts()
        except UserError:
            return 0, {}
        return counts.profiles.get("environments", 0), {
            tag: {str(status): count for status, count in found.items()} for tag, found in counts.episodes.items()
        }
