"""The whole loop: sample experts, train an SFT agent, find where it goes wrong,
train SDPO on that, compare the two.

    bash dpo/demo.sh            without keys, GPU or server: scripted experts,
                                and a small Llama made here
    TRIALS=5 bash dpo/demo.sh   another setting, as a variable
    bash dpo/demo.sh TRIALS=5   the same; a misspelt name is refused

Killed and started again, it goes on where it was. Where a setting or a file has
changed, or an output is gone, what depends on it is done again.
"""

import sys
from collections.abc import Sequence

from sotopia_sdpo.loop import command_line
from sotopia_sdpo.loop.common_steps import CommonSteps
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.runner import Runner, say
from sotopia_sdpo.loop.settings import Settings
from sotopia_sdpo.loop.steps import Step
from sotopia_sdpo.step_files import SEGMENT_PAIRS


def main(arguments: Sequence[str] | None = None, machine: type[Machine] = Machine) -> int:
    """Run the loop, and return the exit code."""
    script = command_line.Script("bash dpo/demo.sh", __doc__ or "", Settings, loop)
    return command_line.run(script, arguments, machine)


def loop(settings: Settings, machine: Machine, runner: Runner) -> None:
    """Run the steps and show what came out."""
    common = CommonSteps(settings, machine)
    before = common.evaluated("sft_eval", "evaluate it")
    after = common.evaluated("sdpo_eval", "evaluate it", agent=settings.run / "sdpo")
    runner.steps(common.to_agent())
    runner.aside(before)
    runner.steps([*common.to_pairs(), sdpo(common), after])
    command_line.show_results(runner, {"sft": [before], "sdpo": [after]}, "results.json")
    run = settings.run
    say(f"report of the pairs:  {(run / SEGMENT_PAIRS.name).with_suffix('.html')}")
    say(f"loss figures:         {run}/sft/training_loss.png {run}/sdpo/training_loss.png")
    say(f"results:              {run}/results.json")
    say("next: open the report; bash dpo/compare.sh (the other methods on the same pairs); change a setting (--help)")


def sdpo(common: CommonSteps) -> Step:
    """Train SDPO on the pairs."""
    settings = common.settings
    return common.trained(
        Step("sdpo", "train SDPO", (), reads=(settings.run / SEGMENT_PAIRS.name,)),
        settings.sdpo_config,
        (common.agent, settings.run / "sdpo"),
        ("dataset=preference_data", *settings.sdpo_options),
    )


if __name__ == "__main__":
    sys.exit(main())
