"""The commands that need the training side: training a model, and serving one as the agent.

Both are asked by their scripts, so that nothing but the command line, JSON and YAML stands between the two sides.
"""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sotopia_sdpo.loop.settings import DEMO_SERVING, ROOT, Settings
from sotopia_sdpo.loop.steps import Command, Service


READ_ERRORS = (YAMLError, OmegaConfBaseException, OSError, TypeError, ValueError)


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
        return Command(("bash", str(ROOT / "train.sh"), str(config), *where, template, *options))

    def serve(self, model: Path) -> Service:
        """Return the server of a model."""
        config, run = self.settings.serve_config, self.settings.run
        template = f"template={self.settings.template}"

        def argv(port: int) -> tuple[str, ...]:
            named = (f"model_name_or_path={model}", f"served_model_name={self.agent}", template)
            return "bash", str(ROOT / "inference.sh"), str(config), *named, "host=127.0.0.1", f"port={port}"

        return Service(
            name="agent",
            log="serve-" + "-".join(model.relative_to(run).parts),
            argv=argv,
            words=(template,),
            reads=(model, *(DEMO_SERVING if config in DEMO_SERVING else with_named_files(config))),
            replicas=int(read_config(config).get("replicas", 1)),
        )


def with_named_files(config: Path) -> tuple[Path, ...]:
    """Return a config and the files that it names, which are meant from LLaMA-Factory/."""
    values = (ROOT / "LLaMA-Factory" / value for value in read_config(config).values() if isinstance(value, str))
    return config, *(path for path in values if path.is_file())


def read_config(path: Path) -> dict[str, Any]:
    """Return what a config says; whoever uses it says what is wrong with it."""
    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(path))
    except READ_ERRORS:
        return {}
    return found if isinstance(found, dict) else {}
