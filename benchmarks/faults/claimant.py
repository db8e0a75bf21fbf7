"""A process that claims, works and stores, as the faults of `crowds` have many of; told of what was saved on stdout.

    python claimant.py episodes|answers URL FOLDER COUNT LEASE_S

Prints a line `claimed NUMBER` when it begins an item, and `saved NUMBER OWNER` once the database has said that it is
stored; ends when all are. The text of what is stored names its owner.
"""

import random
import sys
import time
import uuid
from pathlib import Path

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.kept import Request
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.store import open_answers, open_store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.redis import answers as redis_answers


WORK_S = 0.02
PAUSE_S = 0.02
WINDOW = 12
"""All work on the same few items, so that what one leaves lying is soon met by the others."""
TAG = "crowd"


def episode_of(number: int, owner: str) -> Episode:
    """Make the episode of a number."""
    said = [[("Environment", "Ann", f"hello {number}")], [("Ann", "Environment", f'said: "{owner}"')]]
    fields = {"environment": f"env{number}", "agents": ["ann", "bob"], "tag": TAG, "models": ["e", "m", "p"]}
    return Episode(**fields, messages=said, rewards=[(1.0, {"goal": 1.0})] * 2, status="scored")


def request_of(number: int) -> Request:
    """Make the request of a number."""
    return Request("m", [{"role": "user", "content": str(number)}], {})


def work(number: int) -> None:
    """Say that an item is claimed, and take a while."""
    print("claimed", number, flush=True)
    time.sleep(random.uniform(0, WORK_S))


def saved(number: int, owner: str) -> None:
    """Say that an item is stored."""
    print("saved", number, owner, flush=True)


def episodes(url: str, count: int, lease_s: float, owner: str) -> None:
    """Store the episodes that nobody else does."""
    with open_store(url) as store:
        left = list(range(count))
        while left:
            near, far = left[:WINDOW], left[WINDOW:]
            for number in random.sample(near, len(near)):
                episode = episode_of(number, owner)
                if store.claim(episode.key, owner, lease_s):
                    work(number)
                    if store.put_episode(episode, owner):
                        saved(number, owner)
            there = store.find_keys([episode_of(number, owner).key for number in near])
            left = [number for number in near if episode_of(number, owner).key not in there] + far
            time.sleep(PAUSE_S)


def answers(url: str, folder: Path, count: int, lease_s: float, owner: str) -> None:
    """Store the answers that nobody else does."""
    redis_answers.CLAIM_TTL_S = lease_s
    with open_answers(folder, url) as kept:
        left = list(range(count))
        while left:
            near, far = left[:WINDOW], left[WINDOW:]
            for number in random.sample(near, len(near)):
                request = request_of(number)
                if kept.get(request) is None and kept.claim(request):
                    if kept.get(request) is None:
                        work(number)
                        if kept.put(request, Answer(f"{number} {owner}", Usage(1))).text == f"{number} {owner}":
                            saved(number, owner)
                    kept.release(request)
            left = [number for number in near if kept.get(request_of(number)) is None] + far
            time.sleep(PAUSE_S)


def main() -> int:
    """Work until all is there; 3 where the database is gone."""
    kind, url, folder, count, lease_s = sys.argv[1:]
    owner = uuid.uuid4().hex[:8]
    try:
        if kind == "episodes":
            episodes(url, int(count), float(lease_s), owner)
        else:
            answers(url, Path(folder), int(count), float(lease_s), owner)
    except UserError as err:
        print(f"error: {err}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
