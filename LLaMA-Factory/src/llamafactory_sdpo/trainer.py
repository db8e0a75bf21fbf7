"""The host's DPO trainer, taught to read the masks and weights of `SegmentDataCollator`.

Everything else of the host's trainer stays: loss variants, optimizers, logging, checkpoints. Batches are scored the
fast way (`scoring`), the reference is asked once (`references`), the log tells how much of a pair is scored, and
evaluation is exact, over pairs rather than over batches, also when ranks or the last batch do not come out even.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import EvalPrediction

from .loss import scored_tokens
from .references import References
from .register import CustomDPOTrainer
from .scoring import Scorer, batch_inputs


AVERAGED_LOSSES = ("ipo", "orpo", "simpo")
"""Variants of `pref_loss` that work on the average log-probability of a token instead of the sum."""


class SegmentTrainer(CustomDPOTrainer):
    """Trainer of the stages sdpo, eto and dmpo."""

    def __init__(self, *args: Any, references: References | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.compute_metrics = evaluation_metrics
        tuning = self.finetuning_args
        policy, other = (Scorer(self.accelerator, tuning.shared_history, tuning.scored_logits_only) for _ in range(2))
        # A reference that is a model of another kind is tried on its own.
        self._scorers = {False: policy, True: other if tuning.ref_model else policy}
        self._references = references
        if references is not None:
            references.trainer = self
            self.add_callback(references)

    def concatenated_forward(
        self, model: torch.nn.Module, batch: dict[str, Tensor], is_ref_model: bool = False
    ) -> dict[str, Tensor]:
        """Score the 2B rows of a batch, chosen rows first; the keys are those of the host."""
        scored = scored_tokens(batch["labels"], batch["loss_weights"])
        scores = self._scorers[is_ref_model](model, batch_inputs(batch), scored)
        weights = scored.weights.to(scores.logps.dtype)
        rows = len(batch["labels"])
        sums = scored.sums(scores.logps * weights, rows)
        averages = sums / scored.sums(weights, rows)
        logps = averages if self.loss_type in AVERAGED_LOSSES else sums
        is_chosen = scored.rows < rows // 2
        chosen, rejected = logps.chunk(2)
        return {
            "chosen_logps": chosen,
            "rejected_logps": rejected,
            # The host logs their means and nothing else.
            "chosen_logits": scores.mean_logits[is_chosen],
            "rejected_logits": scores.mean_logits[~is_chosen],
            "chosen_logps_avg": averages[: rows // 2],
        }

    def compute_reference_log_probs(
        self, model: torch.nn.Module, batch: dict[str, Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Look the reference's log-probabilities up, or run it where they were not computed before."""
        if self._references is None or self._references.table is None:
            return super().compute_reference_log_probs(model, batch)
        return self._references.look_up(batch["pair_keys"])

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Go forward and backward; the model may have another attention until both are done."""
        try:
            return super().training_step(*args, **kwargs)
        finally:
            for scorer in self._scorers.values():
                scorer.release()

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
