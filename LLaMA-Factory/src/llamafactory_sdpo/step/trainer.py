"""The host's DPO trainer on the masks and weights of `SegmentDataCollator`.

Everything else of the host's trainer stays: loss variants, optimizers, logging, checkpoints. Log-probabilities are
computed the fast way (`logps`), the reference runs once (`references`), the log counts scored turns and tokens, and
evaluation is exact, over pairs rather than over batches, also when ranks or the last batch are not full.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction, Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..host.names import CustomDPOTrainer
from ..stages import AVERAGED_LOSSES, Norm
from .card import extend
from .curriculum import Curriculum
from .finite import FiniteChecks
from .groups import SeededGroups
from .logps import LogpComputer, batch_inputs
from .loss import normalised, scored_tokens, tokens_of, weighted, weights_of
from .references import References


class SegmentTrainer(CustomDPOTrainer):
    """Trainer of all our stages."""

    def __init__(self, *args: Any, references: References | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.compute_metrics = evaluation_metrics
        self.sections: Callable[[], dict[str, str]] | None = None
        """Makes what the model's card says of the training, once that is over."""
        tuning = self.finetuning_args
        switches = (tuning.shared_history, tuning.scored_logits_only)
        policy, other = (LogpComputer(self.accelerator, *switches) for _ in range(2))
        # A reference that is a model of another kind has a trial of its own.
        self._computers = {False: policy, True: other if tuning.ref_model else policy}
        self._norm: Norm = "length" if self.loss_type in AVERAGED_LOSSES else tuning.loss_norm
        self._positive = float("nan")
        self._checks = FiniteChecks(self)
        self.add_callback(self._checks)
        self._references = references
        if references is not None:
            references.trainer = self
            self.add_callback(references)

    def concatenated_forward(
        self, model: torch.nn.Module, batch: dict[str, Tensor], is_ref_model: bool = False
    ) -> dict[str, Tensor]:
        """Return the log-probabilities of a batch of 2B rows, chosen rows first; the keys are those of the host.

        Those of the reference are (B, K) float64, one for each turn, which the host hands on as they are.
        """
        scored, weights = scored_tokens(batch["labels"], batch["turns"]), weights_of(batch)
        found = self._computers[is_ref_model](model, batch_inputs(batch), scored)
        sums = scored.by_turn(found.logps, weights)
        if is_ref_model:
            return dict(zip(("chosen_logps", "rejected_logps"), sums.chunk(2), strict=True))
        tokens = tokens_of(batch)
        chosen, rejected = normalised(sums, tokens, weights, found.logps.dtype, self._norm).chunk(2)
        averages = weighted(sums, tokens, weights, found.logps.dtype)[1]
        is_chosen = scored.rows < len(batch["labels"]) // 2
        return {
            "chosen_logps": chosen,
            "rejected_logps": rejected,
            # The host logs their means and nothing else.
            "chosen_logits": found.mean_logits[is_chosen],
            "rejected_logits": found.mean_logits[~is_chosen],
            "chosen_logps_avg": averages.chunk(2)[0],
        }

    def compute_reference_log_probs(
        self, model: torch.nn.Module, batch: dict[str, Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the reference's log-probabilities of chosen and rejected sides, from the table if there is one."""
        if not self.finetuning_args.use_ref_model:
            return None, None
        weights = weights_of(batch)
        if self._references is None or self._references.table is None:
            sums = self.reference_turns(model, batch)
        else:
            sums = self._references.look_up(batch["pair_keys"])
        # The type of the policy's.
        dtype = torch.promote_types(self.model.dtype, torch.float32)
        chosen, rejected = normalised(sums, tokens_of(batch), weights, dtype, self._norm).chunk(2)
        return chosen, rejected

    def reference_turns(self, model: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Run the reference; return the log-probability of each turn of a batch: (2B, K) float64."""
        return torch.cat(super().compute_reference_log_probs(model, batch))

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Run forward and backward, and only then put the model's own attention back; stop at a NaN."""
        try:
            loss: Tensor = super().training_step(model, inputs, *args, **kwargs)
        finally:
            for computer in self._computers.values():
                computer.release()
        self._checks.check_loss(loss, inputs)
        return loss

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Save a checkpoint; until it is whole, the state of one that it writes over is not there to say it is."""
        if self.args.should_save:
            folder = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            Path(self.args.output_dir, folder, TRAINER_STATE_NAME).unlink(missing_ok=True)
        super()._save_checkpoint(model, trial)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint or the model, unless it has become one of NaN."""
        self._checks.check_model()
        super().save_model(*args, **kwargs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the host's card with our sections, before it is pushed; TRL's own says another method."""
        Trainer.create_model_card(self, *args, **kwargs)
        if self.sections and self.is_world_process_zero():
            extend(self.args.output_dir, self.sections())

    def get_batch_loss_metrics(
        self, model: torch.nn.Module, batch: dict[str, Tensor], train_eval: str = "train"
    ) -> tuple[Tensor, dict[str, Any]]:
        """Add to the host's metrics how many chosen sides gained, and the mean numbers of scored turns and tokens."""
        loss, metrics = super().get_batch_loss_metrics(model, batch, train_eval)
        metrics["rewards/chosen_positive"] = self._positive
        for name, counts in (("turns", weights_of(batch) > 0), ("tokens", tokens_of(batch))):
            chosen, rejected = counts.sum(-1).float().view(2, -1).mean(-1).tolist()
            metrics[f"{name}/chosen"], metrics[f"{name}/rejected"] = chosen, rejected
        return loss, metrics

    def compute_preference_loss(self, *logps: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return losses, chosen and rejected rewards of the pairs, (B,) each, and keep the share of chosen above 0."""
        losses, chosen, rejected = super().compute_preference_loss(*logps)
        self._positive = (chosen > 0).float().mean().item()
        return losses, chosen, rejected

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        """Return the host's sampler, with a seed of its own if it groups by length, or that of the curriculum."""
        rows = self.train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        if self.finetuning_args.pair_order == "curriculum":
            return Curriculum(rows["length"], rows["gap"], seed)
        sampler = super()._get_train_sampler(*args, **kwargs)
        return SeededGroups(sampler, seed) if isinstance(sampler, LengthGroupedSampler) else sampler

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
        "rewards/chosen_positive": float((chosen > 0).mean()),
        "rewards/accuracies": float((chosen > rejected).mean()),
        "rewards/margins": float((chosen - rejected).mean()),
    }
