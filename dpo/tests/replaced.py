"""Run demo.sh's or compare.sh's loop with training and serving replaced: `python replaced.py demo|compare [NAME=VALUE]`.

Training writes down what it was asked for; the agent is one of the scripted characters.
"""

import sys
from pathlib import Path

from sotopia_sdpo.loop import compare, demo
from sotopia_sdpo.loop.common_steps import sotopia
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.steps import Command, Service


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

    def serve(self, model: Path) -> Service:
        def argv(port: int) -> tuple[str, ...]:
            assert (model / "model.safetensors").exists()
            return sotopia("simulate", "--port", str(port), *self.settings.simulate).argv

        return Service("agent", f"serve-{model.name}", argv, reads=(model,))


if __name__ == "__main__":
    sys.exit({"demo": demo, "compare": compare}[sys.argv[1]].main(sys.argv[2:], Replaced))
