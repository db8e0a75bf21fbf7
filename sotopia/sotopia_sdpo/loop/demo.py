"""The whole loop: sample experts, train an SFT agent, find where it goes wrong,
train SDPO on that, compare the two.

    bash dpo/demo.sh            without keys, GPU or server: scripted experts,
                                and a small Llama made here
    TRIALS=5 bash dpo/demo.sh   another setting, as a variable
    bash dpo/demo.sh TRIALS=5   the same; a misspelt name is refused
    bash dpo/demo.sh ROUNDS=3   SDPO again and again, on what the newest agent
                                gets wrong

Killed and started again, it goes on where it was. Where a setting or a file has
changed, or an output is gone, what depends on it is done again.
"""

import sys
from collections.abc import Sequence

from sotopia_sdpo.loop import command_line, remarks
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.rounds import Round, RoundSettings, all_rounds, gain_of
from sotopia_sdpo.make.lines import say
from sotopia_sdpo.make.runner import Runner
from sotopia_sdpo.places import typed
from sotopia_sdpo.step_files import SEGMENT_PAIRS
from sotopia_sdpo.store import open_store


def main(arguments: Sequence[str] | None = None, machine: type[Machine] = Machine) -> int:
    """Run the loop, and return the exit code."""
    script = command_line.Script("bash dpo/demo.sh", __doc__ or "", RoundSettings, loop)
    return command_line.run(script, arguments, machine)


def loop(settings: RoundSettings, machine: Machine, runner: Runner) -> None:
    """Run the rounds and show what came out of each."""
    rounds = list(all_rounds(settings, machine))
    evaluated = {"sft": [rounds[0].evaluated("sft_eval", "evaluate it")]}
    runner.steps(rounds[0].to_agent())
    runner.aside(evaluated["sft"][0])
    for one in rounds:
        if one.last and not runner.is_planning:
            say(f"round {one.number}, from {one.agent.folder}")
        runner.steps(one.to_trained())
        evaluated[one.name] = [one.evaluation()]
        runner.aside(evaluated[one.name][0])
        if runner.is_planning:
            continue
        command_line.show_results(runner, evaluated, "results.json")
        if one.last and not goes_on(runner, one):
            break
    if runner.is_planning:
        return
    run = settings.run
    say(f"report of the pairs:  {(one.folder / SEGMENT_PAIRS.name).with_suffix('.html')}")
    say(f"loss figures:         {run}/sft/training_loss.png {remarks.trained_in(one.model)}/training_loss.png")
    say(f"results:              {run}/results.json")
    others = typed("bash dpo/compare.sh (the other methods on the same pairs)")
    say(f"next: open the report; {others}; change a setting (--help)")


def goes_on(runner: Runner, one: Round) -> bool:
    """Say what a round gains over the one before, and return whether another one may be begun."""
    assert one.last
    last, newest = (runner.tags(of.evaluation()) for of in (one.last, one))
    with open_store(runner.database.url, create=False) as store:
        gain = gain_of(store, last, newest)
    is_over = one.settings.stop_early and not gain.is_shown
    is_early = is_over and one.number < one.settings.rounds
    why = "; no gain is shown, so no other round is begun (STOP_EARLY=no begins it)" if is_early else ""
    say(f"round {one.number} over round {one.last.number}: {gain.line()}{why}")
    return not is_over


if __name__ == "__main__":
    sys.exit(main())
