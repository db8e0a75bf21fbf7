"""An agent of the loop: a model of its own, or one with LoRA adapters that its server loads while it runs."""

from pathlib import Path
from typing import NamedTuple


class Agent(NamedTuple):
    """What plays, and what the next training starts from."""

    model: Path
    adapters: tuple[Path, ...] = ()
    """Each trained on top of those before it."""
    step: str = ""
    """The step that trained the last of them."""

    @property
    def folder(self) -> Path:
        """Where the newest of it is."""
        return self.adapters[-1] if self.adapters else self.model

    @property
    def parts(self) -> tuple[Path, ...]:
        """All folders that it is made of."""
        return (self.model, *self.adapters)

    def served_as(self, model: str) -> str:
        """Return by which name it is served: a server takes no other adapter under a name that it knows.

        Args:
            model: the name of its model.
        """
        return f"{model}-{{{self.step}}}" if self.adapters else model
