"""ScienceWorld (arXiv 2203.07540): 30 kinds of quests in a house with things that grow, melt and conduct.

Needs the package `scienceworld` and Java. Each instance has a Java process of its own, which ends with ours, also
where ours is killed: it waits at the end of a pipe that we hold. The simplifications `easy` are those of ETO's paper
(arXiv 2403.02502), 100 actions at most the package's own limit. A score below 0, which some wrong choices get, counts
as 0 and ends the episode, as in the package.

Invariant: a quest goes the same way in every process. The simulator lists things in the order of their identity
hashes, which depend on all that a Java process has done before; with the same hash for everything, it does not.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from sotopia_sdpo.envs.protocol import Opening, Quest, Reply, Split
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.outcomes import Outcome


SIMPLIFICATIONS = "easy"
MAX_ACTIONS = 100
HIGHEST = 100
NO_LIMIT = 10**6
"""For the package's own limit, which ours stands in for."""
LOOK = "look around"
JAVA_OPTIONS = "JAVA_TOOL_OPTIONS"
# The hash is the invariant's; the collector of one thread leaves the cores to other instances, and 1 GB is enough.
OUR_JAVA_OPTIONS = "-XX:+UnlockExperimentalVMOptions -XX:hashCode=2 -XX:+UseSerialGC -Xmx1g"
NEEDS_JAVA = "install one (Debian and Ubuntu: `apt-get install default-jre-headless`)"


class ScienceWorld:
    """One instance."""

    settings = {"simplifications": SIMPLIFICATIONS}
    max_actions = MAX_ACTIONS
    commands = (
        "`go to ROOM`, `teleport to ROOM`, `look around`, `look at THING`, `look in THING`, `open THING`, `close "
        "THING`, `pick up THING`, `put down THING`, `move THING to THING`, `focus on THING`, `use THING on THING`, "
        "`activate THING`, `deactivate THING`, `connect THING to THING`, `disconnect THING`, `pour THING in "
        "THING`, `dunk THING in THING`, `mix THING`, `read THING`, `eat THING`, `flush THING`, `wait`, `wait1`, "
        "`inventory`, `task`"
    )

    def __init__(self) -> None:
        """Start a Java process.

        Raises:
            UserError: if there is no Java, or it does not start.
        """
        from scienceworld import ScienceWorldEnv

        given = os.environ.get(JAVA_OPTIONS, "")
        if OUR_JAVA_OPTIONS not in given:
            os.environ[JAVA_OPTIONS] = f"{given} {OUR_JAVA_OPTIONS}".strip()
        check_java()
        self._env = ScienceWorldEnv("", envStepLimit=NO_LIMIT)
        # The package's own step() also lists all actions that are possible, which takes five times as long.
        self._server: Any = self._env.server
        self._score = 0

    @property
    def kinds(self) -> Sequence[str]:
        """The names of the 30 kinds."""
        return list(self._env.get_task_names())

    def variations(self, kind: str, split: Split) -> Sequence[int]:
        """Return the published variations of a kind in a split."""
        self._env.load(kind, 0, SIMPLIFICATIONS)
        read: dict[Split, Callable[[], list[int]]] = {
            "train": self._env.get_variations_train,
            "dev": self._env.get_variations_dev,
            "test": self._env.get_variations_test,
        }
        return read[split]()

    def reset(self, quest: Quest) -> Opening:
        """Begin a quest."""
        # What is loaded is new: the package's own reset() would only do it again, which takes longer.
        self._env.load(quest.kind, quest.variation, SIMPLIFICATIONS)
        observation = str(self._server.step(LOOK))
        self._score = max(self._points(), 0)
        return Opening(str(self._env.get_task_description()), observation)

    def act(self, action: str) -> Reply:
        """Do one action."""
        observation, before = str(self._server.step(action)), self._score
        points = self._points()
        self._score = max(points, 0)
        return Reply(observation, self._score - before, points < 0 or bool(self._server.getCompleted()))

    def score(self) -> Outcome:
        """Return the score."""
        return Outcome("score", self._score, 0, HIGHEST)

    def gold(self, quest: Quest) -> Sequence[str]:
        """Return the package's own solution, which is not always the shortest."""
        self._env.load(quest.kind, quest.variation, SIMPLIFICATIONS, generateGoldPath=True)
        return list(map(str, self._env.get_gold_action_sequence()))

    def close(self) -> None:
        """End the Java process."""
        self._env.close()

    def _points(self) -> int:
        """Return the score as the package counts it."""
        return round(HIGHEST * float(self._server.getScore()))


def check_java() -> None:
    """Check that there is a Java that takes our options.

    Raises:
        UserError: if not.
    """
    if shutil.which("java") is None:
        raise UserError(f"--env scienceworld: no `java` on the PATH, which ScienceWorld runs in; {NEEDS_JAVA}")
    tried = subprocess.run(["java", "-version"], capture_output=True, text=True)
    if tried.returncode:
        said = (tried.stderr.strip() or f"exit code {tried.returncode}").splitlines()[-1]
        raise UserError(f"--env scienceworld: `java` does not start ({said}); {NEEDS_JAVA}")
