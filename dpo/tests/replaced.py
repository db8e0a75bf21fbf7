"""Run demo.sh's or compare.sh's loop with training and serving replaced: `python replaced.py demo|compare [NAME=VALUE]`.

Training writes down what it was asked for; the agent is one of the scripted characters. SEED_OF_ROUND names the seed of
that character by round, of which its care depends: "0 4" is one that is better in the second round.
"""

import os
import sys
from pathlib import Path

from sotopia_sdpo.loop import compare, demo
from sotopia_sdpo.loop.common_steps import sotopia
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.make.steps import Command, Service


WRITE = """
import sys
from pathlib import Path
trained, output, line = Path(sys.argv[1]), Path(sys.argv[2]), " ".join(sys.argv[3:])
output.mkdir(parents=True, exist_ok=True)
(output / "model.safetensors").write_text(line)
with trained.open("a") as file:
    print(line, file=file)
"""


class Replaced(Machine):
    """Trains nothing, and serves a scripted character."""

    agent = "bob"

    def train(self, config: Path, model: str | Path, output: Path, *options: str) -> Command:
        line = map(str, (config, model, output, *options))
        return Command(("{python}", "-c", WRITE, f"{self.settings.run}/trained", str(output), *line))

    def serve(self, model: Path, *options: str) -> Service:
        def argv(port: int) -> tuple[str, ...]:
            assert (model / "model.safetensors").exists()
            seeds = os.environ.get("SEED_OF_ROUND", "0").split()
            before, mark, number = model.parent.name.partition("round-")
            seed = seeds[min(int(number) if mark and not before else 1, len(seeds)) - 1]
            return sotopia("simulate", "--port", str(port), "--seed", seed, *self.settings.simulate).argv

        return Service("agent", f"serve-{model.name}", argv, reads=(model,))


if __name__ == "__main__":
    sys.exit({"demo": demo, "compare": compare}[sys.argv[1]].main(sys.argv[2:], Replaced))
