"""The host's DPO trainer on the masks and weights of `SegmentDataCollator`.

Everything else of the host's trainer stays: loss variants, optimizers, logging, checkpoints. Log-probabilities are
computed the fast way (`logps`), the reference runs once (`references`), the log counts scored turns and tokens, and
evaluation is exact, over pairs rather than over batches, also when ranks or the last batch are not full.
"""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction

from ..host.names import CustomDPOTrainer
from .finite import FiniteChecks
from .logps import LogpComputer, batch_inputs
from .loss import scored_tokens
from .references import References


AVERAGED_LOSSES = ("ipo", "orpo", "simpo")
"""Variants of `pref_loss` that work on the average log-probability of a token instead of the sum."""


class SegmentTrainer(CustomDPOTrainer):
    """Trainer of all our stages."""

    def __init__(self, *args: Any, references: References | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.compute_metrics = evaluation_metrics
        tuning = self.finetuning_args
        switches = (tuning.shared_history, tuning.scored_logits_only)
        policy, other = (LogpComputer(self.accelerator, *switches) for _ in range(2))
        # A reference that is a model of another kind has a trial of its own.
        self._computers = {False: policy, True: other if tuning.ref_model else policy}
        self._checks = FiniteChecks(self)
        self.add_callback(self._checks)
        self._references = references
        if references is not None:
            references.trainer = self
            self.add_callback(references)

    def concatenated_forward(
        self, model: torch.nn.Module, batch: dict[str, Tensor], is_ref_model: bool = False
    ) -> dict[str, Tensor]:
        """Return the log-probabilities of a batch of 2B rows, chosen rows first; the keys are those of the host."""
        scored = scored_tokens(batch["labels"], batch["loss_weights"])
        found = self._computers[is_ref_model](model, batch_inputs(batch), scored)
        weights = scored.weights.to(found.logps.dtype)
        rows = len(batch["labels"])
        sums = scored.sums(found.logps * weights, rows)
        averages = sums / scored.sums(weights, rows)
        logps = averages if self.loss_type in AVERAGED_LOSSES else sums
        is_chosen = scored.rows < rows // 2
        chosen, rejected = logps.chunk(2)
        return {
            "chosen_logps": chosen,
            "rejected_logps": rejected,
            # The host logs their means and nothing else.
            "chosen_logits": found.mean_logits[is_chosen],
            "rejected_logits": found.mean_logits[~is_chosen],
            "chosen_logps_avg": averages[: rows // 2],
        }

    def compute_reference_log_probs(
        self, model: torch.nn.Module, batch: dict[str, Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the reference's log-probabilities, from the table if there is one."""
        if self._references is None or self._references.table is None:
            logps: tuple[Tensor | None, Tensor | None] = super().compute_reference_log_probs(model, batch)
            return logps
        return self._references.look_up(batch["pair_keys"])

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Run forward and backward, and only then put the model's own attention back; stop at a NaN."""
        try:
            loss: Tensor = super().training_step(model, inputs, *args, **kwargs)
        finally:
            for computer in self._computers.values():
                computer.release()
        self._checks.check_loss(loss, inputs)
        return loss

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint or the model, unless it has become one of NaN."""
        self._checks.check_model()
        super().save_model(*args, **kwargs)

    def get_batch_loss_metrics(
        self, model: torch.nn.Module, batch: dict[str, Tensor], train_eval: str = "train"
    ) -> tuple[Tensor, dict[str, Any]]:
        """Add the mean numbers of scored turns and tokens of a side to the host's metrics."""
        loss, metrics = super().get_batch_loss_metrics(model, batch, train_eval)
        weights = batch["loss_weights"]
        scored = weights > 0
        # A turn begins where a scored token follows one that is not scored, or one of another weight.
        starts = scored & (weights != weights.roll(1, dims=1))
        for name, marks in (("turns", starts), ("tokens", scored)):
            chosen, rejected = marks.sum(-1).float().view(2, -1).mean(-1).tolist()
            metrics[f"{name}/chosen"], metrics[f"{name}/rejected"] = chosen, rejected
        return loss, metrics

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, Tensor, Tensor]:
        """Return (B, 3) losses, chosen and rejected rewards of the pairs; `evaluation_metrics` averages them."""
        inputs = self._prepare_inputs(inputs)
        # As the host's trainer does for PEFT models that were cast to bf16.
        cast = torch.autocast(self.accelerator.device.type) if self._peft_has_been_casted_to_bf16 else nullcontext()
        with torch.no_grad(), cast:
            policy = self.concatenated_forward(model, inputs)
            losses, chosen, rejected = self.compute_preference_loss(
                policy["chosen_logps"], policy["rejected_logps"], *self.compute_reference_log_probs(model, inputs)
            )
            losses = losses - self.ftx_gamma * policy["chosen_logps_avg"]
        rows = torch.stack([losses, chosen, rejected], dim=-1).float()
        return None, rows, rows.new_zeros(len(rows))


def evaluation_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return the means of what `prediction_step` returned: (n, 3) losses and rewards of n pairs."""
    losses, chosen, rejected = np.asarray(prediction.predictions).T
    return {
        "loss": float(losses.mean()),
        "pairs": len(losses),
        "rewards/chosen": float(chosen.mean()),
        "rewards/rejected": float(rejected.mean()),
        "rewards/accuracies": float((chosen > rejected).mean()),
        "rewards/margins": float((chosen - rejected).mean()),
    }
