"""ScienceWorld: gold solves it, a replay in another process tells the same, and no Java process stays behind.

Skipped where the package or Java is not installed.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from sotopia_sdpo.envs.protocol import Opening, Quest, Reply
from sotopia_sdpo.envs.scienceworld import ScienceWorld
from sotopia_sdpo.errors import UserError


HAS_PACKAGE = find_spec("scienceworld") is not None
needs_package = pytest.mark.skipif(not HAS_PACKAGE, reason="the package scienceworld is not installed")
needs_java = pytest.mark.skipif(
    not HAS_PACKAGE or shutil.which("java") is None, reason="scienceworld or Java is not installed"
)
WRONG_FOCUS = Quest("find-non-living-thing", 0)
# The first is told in another order in every Java process whose hashes are not fixed.
QUESTS = [Quest("find-plant", 1), Quest("lifespan-longest-lived", 2)]
DEADLINE_S = 60


@pytest.fixture(scope="module")
def world() -> Iterator[ScienceWorld]:
    found = ScienceWorld()
    yield found
    found.close()


def play(world: ScienceWorld, quest: Quest, actions: list[str]) -> tuple[Opening, list[Reply]]:
    return world.reset(quest), [world.act(action) for action in actions]


@needs_java
def test_the_kinds_and_their_splits(world: ScienceWorld) -> None:
    assert len(world.kinds) == 30 and "find-plant" in world.kinds
    train, dev, test = (world.variations("find-plant", split) for split in ("train", "dev", "test"))
    assert (len(train), len(dev), len(test)) == (150, 75, 75) and not {*train} & {*test} and not {*dev} & {*test}


@needs_java
@pytest.mark.parametrize("quest", QUESTS, ids=str)
def test_gold_solves_it_and_a_replay_elsewhere_tells_the_same(world: ScienceWorld, quest: Quest) -> None:
    gold = list(world.gold(quest))
    opening, replies = play(world, quest, gold)
    # Gold actions may wait on after the end, when nothing changes any more.
    over = [reply.is_over for reply in replies]
    assert over == sorted(over) and over[-1]
    assert world.score().value == world.score().high == 100 >= sum(reply.reward for reply in replies) > 80
    other = ScienceWorld()
    try:
        # A past of its own: the simulator's order of things used to depend on it.
        play(other, WRONG_FOCUS, ["look around", "go to kitchen"])
        other.gold(Quest("find-animal", 3))
        assert play(other, quest, gold) == (opening, replies)
    finally:
        other.close()


@needs_java
def test_a_step_past_the_package_tells_what_the_packages_own_does(world: ScienceWorld) -> None:
    """What is touched inside: `server.step`, `getScore` and `getCompleted`; and loading is as good as reset()."""
    quest, actions = QUESTS[0], ["open door to kitchen", "go to greenhouse", "look around", "fly", "inventory"]
    opening, replies = play(world, quest, actions)
    world._env.load(quest.kind, quest.variation, "easy")
    assert world._env.reset()[0] == opening.observation and world._env.get_task_description() == opening.task
    for action, reply in zip(actions, replies, strict=True):
        observation, reward, is_over, _ = world._env.step(action)
        assert (observation, reward, is_over) == reply


@needs_java
def test_a_wrong_choice_ends_it_at_0(world: ScienceWorld) -> None:
    opening = world.reset(WRONG_FOCUS)
    assert "non-living" in opening.task
    gained = world.act("teleport to greenhouse").reward
    assert gained > 0 and world.act("nonsense") == Reply("No known action matches that input.", 0, False)
    before = world.score().value
    assert world.act("focus on pea plant") == Reply("You focus on the pea plant.", -before, True)
    assert world.score().value == 0


@needs_package
def test_without_java_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no `java` on the PATH.*apt-get install default-jre-headless"):
        ScienceWorld()
    broken = tmp_path / "java"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(UserError, match=r"`java` does not start \(exit code 1\); install one"):
        ScienceWorld()


@needs_java
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_java_ends_with_us(number: int) -> None:
    code = "from sotopia_sdpo.envs.scienceworld import ScienceWorld as S; s = S(); print('up', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    (java,) = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, number)
    process.wait(DEADLINE_S)
    deadline = time.monotonic() + DEADLINE_S
    while java.is_running() and java.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not java.is_running() or java.status() == psutil.STATUS_ZOMBIE
