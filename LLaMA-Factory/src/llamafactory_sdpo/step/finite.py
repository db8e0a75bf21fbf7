"""Stop a training of numbers that are none: at that step, with the pairs of its batches, and before a model is saved.

A model is saved only if its log-probabilities of the last batch are still numbers, so no checkpoint of weights that
have run away takes the place of a good one.
"""

from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from ..errors import TrainingFailed


SHOWN = 8
"""Pairs that a message names."""


class FiniteChecks(TrainerCallback):
    """Checks the losses, weights and models of a trainer of pairs."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._batches: list[dict[str, Tensor]] = []

    def check_loss(self, loss: Tensor, batch: dict[str, Tensor]) -> None:
        """Stop if the loss of a batch is not a number.

        Raises:
            TrainingFailed: naming the step and the pairs, as all checks here do.
        """
        self._batches.append(batch)
        if not torch.isfinite(loss).all():
            raise self._failed(self._trainer.state.global_step + 1, f"the loss is {loss.item()}", [batch])

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Forget the batches of the step before."""
        self._batches = []

    def on_step_end(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        """Stop if gradients have made the weights of this rank something else than numbers."""
        if not has_finite_weights(model):
            raise self._failed(self._trainer.state.global_step, "its update made weights that are not numbers")

    def check_model(self) -> None:
        """Stop before a model is saved whose log-probabilities of the last batch are not numbers, on any rank."""
        if not self._batches:
            return
        trainer = self._trainer
        model = trainer.model_wrapped
        was_training = model.training
        model.eval()
        with torch.no_grad(), trainer.accelerator.autocast():
            found = trainer.concatenated_forward(model, trainer._prepare_inputs(self._batches[-1]))
        model.train(was_training)
        sums = (found["chosen_logps"] + found["rejected_logps"]).float()
        if not torch.isfinite(trainer.accelerator.gather(sums)).all():
            raise self._failed(trainer.state.global_step, "after its update the log-probabilities are not numbers")

    def _failed(self, step: int, what: str, batches: list[dict[str, Tensor]] | None = None) -> TrainingFailed:
        keys = {key for batch in batches or self._batches for key in batch["pair_keys"].tolist()}
        named = origins(self._trainer.train_dataset, keys)
        pairs = f" on {', '.join(named)}" if named else ""
        return failed(step, f"{what}{pairs}", self._trainer.args.output_dir, "these pairs")


def failed(step: int, what: str, output: str, data: str) -> TrainingFailed:
    """Return the error of a training that has ended in numbers that are none."""
    return TrainingFailed(
        f"step {step}: {what}; nothing of it is saved, and checkpoints in {output} stay; "
        f"lower learning_rate, or look at {data}"
    )


def has_finite_weights(model: torch.nn.Module) -> bool:
    """Return whether all trained weights of this rank are numbers; DeepSpeed's and FSDP's shards are looked into."""
    parts = [_local(weights).detach() for weights in model.parameters() if weights.requires_grad]
    largest = [torch.linalg.vector_norm(part, torch.inf, dtype=torch.float32) for part in parts if part.numel()]
    return not largest or bool(torch.isfinite(torch.stack([value.to(largest[0].device) for value in largest])).all())


def _local(weights: Any) -> Any:
    shard = getattr(weights, "ds_tensor", weights)
    return shard.to_local() if hasattr(shard, "to_local") else shard


def origins(rows: Any, keys: set[int]) -> list[str]:
    """Return where the pairs of these keys come from, the first of them."""
    return list(islice((row["origin"] for row in rows if row["key"] in keys), SHOWN))
