"""The host's DPO trainer, taught to read the masks and weights of `SegmentDataCollator`.

Everything else of the host's trainer stays: reference model, loss variants, optimizers, logging, checkpoints. Two
things are added: the log tells how much of a pair is scored, and evaluation is exact, over pairs rather than over
batches, also when ranks or the last batch do not come out even.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import EvalPrediction

from .loss import segment_logps
from .register import CustomDPOTrainer


AVERAGED_LOSSES = ("ipo", "orpo", "simpo")
"""Variants of `pref_loss` that work on the average log-probability of a token instead of the sum."""


class SegmentTrainer(CustomDPOTrainer):
    """Trainer of the stages sdpo, eto and dmpo."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.compute_metrics = evaluation_metrics

    def concatenated_forward(
        self, model: torch.nn.Module, batch: dict[str, Tensor], is_ref_model: bool = False
    ) -> dict[str, Tensor]:
        """Score the 2B rows of a batch, chosen rows first; the keys are those of the host."""
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "loss_weights")}
        logits = model(**inputs, return_dict=True, use_cache=False).logits
        scored = segment_logps(logits, batch["labels"], batch["loss_weights"])
        averages = scored.sums / scored.weights
        logps = averages if self.loss_type in AVERAGED_LOSSES else scored.sums
        pairs = len(logps) // 2
        return {
            "chosen_logps": logps[:pairs],
            "rejected_logps": logps[pairs:],
            "chosen_logits": scored.logits[scored.rows < pairs],
            "rejected_logits": scored.logits[scored.rows >= pairs],
            "chosen_logps_avg": averages[:pairs],
        }

    def get_batch_loss_metrics(
        self, model: torch.nn.Module, batch: dict[str, Tensor], train_eval: str = "train"
    ) -> tuple[Tensor, dict[str, Any]]:
        """Add to the host's metrics how many turns and tokens of a pair are scored, a side at a time."""
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
    """Average what `prediction_step` returned: (n, 3) losses, chosen and rejected rewards of n pairs."""
    losses, chosen, rejected = prediction.predictions.T
    return {
        "loss": float(losses.mean()),
        "pairs": len(losses),
        "rewards/chosen": float(chosen.mean()),
        "rewards/rejected": float(rejected.mean()),
        "rewards/accuracies": float((chosen > rejected).mean()),
        "rewards/margins": float((chosen - rejected).mean()),
    }
