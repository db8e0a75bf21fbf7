"""A script of a few steps for test_steps.py: its settings are variables, and what its steps do is written to RUN/ran."""

import os
import sys
from operator import methodcaller
from pathlib import Path

from sotopia_sdpo.errors import run_at_edge
from sotopia_sdpo.make.processes import claimed, ended_by_signals
from sotopia_sdpo.make.runner import MAY_MISS, Runner
from sotopia_sdpo.make.steps import Command, Service, Step


RUN = Path(os.environ["RUN"])
CONFIG, MADE, MODEL = RUN / "config.yaml", RUN / "made.json", RUN / "model"
SERVER = (
    '[ "$0" = none ] && exit 5; echo $$ >"$SDPO_HOME/pid"; '
    f'exec "{sys.executable}" -um http.server --bind 127.0.0.1 -d "$SDPO_HOME" $1'
)
EPISODE = """
import sys
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.episode import Episode
with open_store() as store:
    store.put_episode(Episode(environment="e", agents=["a", "b"], tag=sys.argv[1], messages=[], status="unscored"))
"""


def shell(text: str, *words: str, may_miss: bool = False) -> Command:
    """Write what a step does; a word of it is a setting."""
    return Command(("sh", "-ec", text, *words), may_miss)


def setting(name: str) -> str:
    return os.environ.get(name, name)


def server_argv(port: int) -> tuple[str, ...]:
    return "sh", "-c", SERVER, setting("SERVER"), str(port)


ONE = Step(
    "one",
    "the first thing",
    (shell('echo one >>"$SDPO_HOME/ran"; echo "$0" >"$SDPO_HOME/made.json"', setting("FIRST")),),
    writes=(MADE,),
    remark=lambda: f"kept {MADE.read_text().strip()} of 9 things",
)
TWO = Step(
    "two",
    "the second thing",
    (
        shell(
            'echo two >>"$SDPO_HOME/ran"; test "$0" != bad; test "$0" != stuck || exec "$1" "$2"',
            setting("SECOND"),
            str(RUN / "stuck.sh"),
            "{server}",
        ),
        shell(
            'echo "never if bad" >>"$SDPO_HOME/ran"; mkdir -p "$SDPO_HOME/model"; echo w >"$SDPO_HOME/model/config.json"'
        ),
    ),
    reads=(CONFIG,),
    writes=(MODEL,),
    services=(Service("server", "server", server_argv),),
)
BESIDE = [
    Step(
        f"beside.{letter}",
        "a thing beside",
        (
            shell('echo "$0" >>"$SDPO_HOME/ran"', letter),
            shell('test "$1" != stuck || { echo $$ >"$SDPO_HOME/pid.$0"; sleep 600; }', letter, setting("BESIDE")),
        ),
        reads=(MODEL,),
    )
    for letter in "ab"
]
THREE = Step(
    "three",
    "the third thing",
    (
        shell(
            'echo three-"$0" >>"$SDPO_HOME/ran"; test "$2" = MISSED || echo "$2" >"$SDPO_ACCOUNT"; exit "$1"',
            "{one}",
            setting("THIRD"),
            setting("MISSED"),
            may_miss=True,
        ),
    ),
    reads=(MADE,),
    may_miss_all=setting("MAY_MISS_ALL") == "1",
)
SAMPLE = Step(
    "sample",
    "episodes",
    (shell('echo sample >>"$SDPO_HOME/ran"'), Command(("{python}", "-c", EPISODE, "t-{key}"))),
    tags=("t-{key}",),
)
LAST = Step("last", "the last thing", (shell('echo last >>"$SDPO_HOME/ran"', "t-{sample}"),))


def main() -> None:
    """Run the steps."""
    with ended_by_signals(), claimed(RUN), Runner(RUN, may_miss=float(os.environ.get("MAY_MISS", MAY_MISS))) as runner:
        runner.steps([ONE, TWO])
        runner.branches([methodcaller("step", step) for step in BESIDE], int(os.environ.get("AT_ONCE", "1")))
        runner.step(THREE)
        if setting("EPISODES") == "1":
            runner.steps([SAMPLE, LAST])


if __name__ == "__main__":
    sys.exit(run_at_edge(main))
