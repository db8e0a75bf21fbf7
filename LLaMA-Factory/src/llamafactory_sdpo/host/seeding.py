"""Answers that depend on their request and its seed, and on nothing that the engine does besides.

Comes in: a model and the seed of a request. Goes out: what the engine takes for the model. Invariant: transformers
draws from torch's generator of the whole process, so one answer is generated at a time, from it set to the seed,
which is put back where it was; a request without a seed goes on from there.
"""

import threading
from contextlib import nullcontext
from typing import Any

import torch


_ONE_AT_A_TIME = threading.Lock()


class SeededModel:
    """A model whose `generate` draws by a seed."""

    def __init__(self, model: Any, seed: int | None = None) -> None:
        """Take the model, and the seed; None draws on from where the process is."""
        self._model, self._seed = model, seed

    def __getattr__(self, name: str) -> Any:
        """Return what the model has."""
        return getattr(self._model, name)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate as the model does."""
        device = self._model.device
        gpus = [device] if device.type == "cuda" else []
        kept = nullcontext() if self._seed is None else torch.random.fork_rng(gpus)
        with _ONE_AT_A_TIME, kept:
            if self._seed is not None:
                torch.manual_seed(self._seed)
            return self._model.generate(*args, **kwargs)
