"""The commands that need the training side: training a model, and serving one as the agent.

Both are asked by their scripts, so that nothing but the command line, JSON and YAML stands between the two sides.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop.agents import Agent
from sotopia_sdpo.loop.configs import read_config
from sotopia_sdpo.loop.places import DEMO_SERVING
from sotopia_sdpo.loop.settings import Settings
from sotopia_sdpo.make.steps import Command, Service
from sotopia_sdpo.places import TRAINING, training_command


TUNING = "finetuning_type="
RANK = "lora_rank="
DEFAULT_RANK = 8
"""The host's."""
ADAPTERS = "adapter_name_or_path"
OF_ONE_TRAINING = (ADAPTERS, "tokenized_path", "resume_from_checkpoint")
"""Keys of a config that belong to a training by itself: in the loop, models and data are those of the step."""


class Machine:
    """Trains and serves; tests put another in its place."""

    agent = "agent"
    """By which name the agent is served."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings."""
        self.settings = settings

    def train(self, config: Path, model: str | Path, output: Path, *options: str) -> Command:
        """Return what trains a model."""
        where = (f"model_name_or_path={model}", f"output_dir={output}", f"dataset_dir={self.settings.run}")
        template = f"template={self.settings.template}"
        named = read_config(config)
        without = (f"{key}=null" for key in OF_ONE_TRAINING if named.get(key))
        return Command((*training_command("train"), str(config), *where, template, *without, *options))

    def is_adapter(self, config: Path, options: Sequence[str]) -> bool:
        """Return whether a training makes an adapter: by its options, else by its config."""
        return bool(option_of(TUNING, config, options) == "lora")

    def rank_of(self, config: Path, options: Sequence[str]) -> int:
        """Return the rank of the adapter that a training makes."""
        return int(option_of(RANK, config, options) or DEFAULT_RANK)

    def merge(self, model: str | Path, adapter: Path, output: Path) -> Command:
        """Return what merges an adapter into its model: the next training, and the server, take it as any other."""
        named = ("--model_name_or_path", str(model), "--adapter_name_or_path", str(adapter))
        made = ("--finetuning_type", "lora", "--template", self.settings.template, "--export_dir", str(output))
        return Command(("{python}", "-m", "llamafactory_sdpo.cli", "export", *named, *made))

    def load(self, agent: Agent) -> Command:
        """Return what loads an agent's adapters into the server of its model."""
        named = agent.served_as(self.agent), ",".join(map(str, agent.adapters))
        return Command(("{python}", "-m", "llamafactory_sdpo.load_adapter", *named, "{agent}"))

    def serve(self, model: Path, *options: str) -> Service:
        """Return the server of a model; options are what is changed of SERVE_CONFIG, but for what is answered.

        Raises:
            UserError: if SERVE_CONFIG puts adapters on it.
        """
        config, run = self.settings.serve_config, self.settings.run
        if read_config(config).get(ADAPTERS):
            raise UserError(f"SERVE_CONFIG={config}: {ADAPTERS} is not that of an agent of the loop; leave it out")
        template = f"template={self.settings.template}"

        def argv(port: int) -> tuple[str, ...]:
            named = (f"model_name_or_path={model}", f"served_model_name={self.agent}", template)
            return *training_command("inference"), str(config), *named, *options, "host=127.0.0.1", f"port={port}"

        return Service(
            name="agent",
            log="serve-" + "-".join(model.relative_to(run).parts if model.is_relative_to(run) else (model.name,)),
            argv=argv,
            words=(template,),
            reads=(model, *(DEMO_SERVING if config in DEMO_SERVING else with_named_files(config))),
            replicas=int(read_config(config).get("replicas", 1)),
        )


def option_of(name: str, config: Path, options: Sequence[str]) -> Any:
    """Return the value of an option, `name=`: the last one that is given, else the config's."""
    given = [word.removeprefix(name) for word in options if word.startswith(name)]
    return given[-1] if given else read_config(config).get(name.rstrip("="))


def with_named_files(config: Path) -> tuple[Path, ...]:
    """Return a config and the files that it names, which are meant from where the examples are."""
    values = (TRAINING / value for value in read_config(config).values() if isinstance(value, str))
    return config, *filter(_is_file, values)


def _is_file(path: Path) -> bool:
    """Return whether a value names a file; a text may be longer than any name of one."""
    try:
        return path.is_file()
    except OSError:
        return False
