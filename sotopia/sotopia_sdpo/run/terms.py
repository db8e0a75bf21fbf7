"""Hold the tags of a run, so that nobody samples them with other settings at the same time.

Comes in: work items and a store. Goes out: nothing, or a UserError. A claim on the name of a tag has for its owner
what the episodes of the tag agree in, so processes that agree share it. Nobody gives it back, since others may go on:
it runs out. Invariant: what is stored is looked at only once the tag is held, so nothing else comes in between.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.run.plan import Planned, agreed, check_run
from sotopia_sdpo.run.runner import CLAIM_TTL_S, LOOK_AGAIN_S
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.keys import EpisodeKey


NAME = "terms of "
"""Before a tag, in the place of one: so it is no claim on an episode, for which a tag may not be deleted."""
LONGEST_WAIT_S = 1.5 * CLAIM_TTL_S
"""By then the claim of a process that has ended has run out."""


class Terms:
    """The settings of the tags of some work."""

    def __init__(self, store: Store, items: Sequence[Planned]) -> None:
        """Take where the work is stored, and the work; what follows it is of the same runs."""
        self.store = store
        self.runs = list({item.run.tags[0]: item.run for item in items}.values())
        self._owners: dict[EpisodeKey, str] = {}

    async def hold(self) -> None:
        """Claim all tags of the runs, then look whether what is stored agrees.

        Raises:
            UserError: if another process samples one of them with other settings, or has done so.
        """
        owners = {EpisodeKey(f"{NAME}{tag}", "", 0, 0): _digest(agreed(run)) for run in self.runs for tag in run.tags}
        end = time.monotonic() + LONGEST_WAIT_S
        for key, owner in owners.items():
            while not await asyncio.to_thread(self.store.claim, key, owner, CLAIM_TTL_S):
                if time.monotonic() > end:
                    raise _others(key, "another process samples it")
                await asyncio.sleep(LOOK_AGAIN_S)
                # Those that are held already would run out meanwhile.
                await asyncio.to_thread(self.renew)
            self._owners[key] = owner
        for run in self.runs:
            await asyncio.to_thread(check_run, self.store, run)

    def renew(self) -> None:
        """Prolong the claims, or make those anew that a server has lost.

        Raises:
            UserError: if another process has taken one, since this one had stopped for longer than that.
        """
        for key, owner in list(self._owners.items()):
            if not self.store.claim(key, owner, CLAIM_TTL_S):
                raise _others(key, "while this process stood still, another one has begun to sample it")


def _digest(terms: object) -> str:
    return hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()


def _tag_of(key: EpisodeKey) -> str:
    return key.tag.removeprefix(NAME)


def _others(key: EpisodeKey, what: str) -> UserError:
    return UserError(
        f"tag {_tag_of(key)}: {what} with other settings or models; give another --tag, or the same settings"
    )
