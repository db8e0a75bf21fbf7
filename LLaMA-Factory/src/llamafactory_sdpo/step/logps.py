"""The log-probabilities of the scored tokens of a batch, by the fastest way that gives the same result.

    shared   each pair's history once, logits of the scored positions alone (`sharing`)
    plain    a row a dialogue, as the host's trainer does, logits of the scored positions alone or of all

The first batch that can be shared is computed both ways; on a mismatch, or if the model cannot share, fall back to the
plain way and log the reason.
"""

import inspect
import logging
from typing import Any, NamedTuple, cast

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from . import sharing
from .loss import ScoredTokens, token_logps
from .sharing import Forward


logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Largest accepted difference of a token's log-probability between the two ways, relative above 1."""

HALF_TOLERANCE = 5e-2
"""The same for the mean over tokens when the model computes in 16 bits, whose rounding depends on the shape."""


class TokenLogps(NamedTuple):
    """The log-probabilities of N scored tokens, and the means over the vocabulary of the logits behind them."""

    logps: Tensor
    mean_logits: Tensor


class LogpComputer:
    """Computes the log-probabilities of models of one kind: the policy, and the reference if that is its copy."""

    def __init__(self, accelerator: Accelerator, shared_history: bool, scored_logits_only: bool) -> None:
        self._accelerator = accelerator
        self._scored_logits_only = scored_logits_only
        self._may_share = shared_history
        self._is_checked = False
        self._switched: dict[PreTrainedModel, str] = {}

    def __call__(self, model: torch.nn.Module, batch: dict[str, Tensor], scored: ScoredTokens) -> TokenLogps:
        """Return the log-probabilities of a batch's scored tokens.

        Args:
            model: as the trainer has wrapped it.
            batch: `input_ids`, `attention_mask` (2B, T) and whatever else the host's collator adds for the model.
            scored: its scored tokens.
        """
        is_in_window = self._is_in_window(model, batch)
        if self._may_share and not self._is_checked and self._holds_everywhere(is_in_window):
            reason = self._why_not(model, batch, scored)
            self._is_checked, self._may_share = True, reason is None
            if reason and self._accelerator.is_main_process:
                logger.warning("shared_history is off, each side is encoded with a history of its own: %s", reason)
        if self._may_share and self._is_checked and is_in_window:
            return self._shared(model, batch, scored)
        return self._plain(model, batch, scored)

    def release(self) -> None:
        """Put the models' own attention back; to be called after a step's backward pass."""
        for base in list(self._switched):
            self._release(base)

    def _release(self, base: PreTrainedModel) -> None:
        if base in self._switched:
            base.config._attn_implementation = self._switched.pop(base)

    def _shared(self, model: torch.nn.Module, batch: dict[str, Tensor], scored: ScoredTokens) -> TokenLogps:
        base = self._base(model)
        # With checkpointing the backward pass runs the layers again, and must find the attention of the forward, even
        # if the same model runs without gradients in between.
        is_needed_later = base in self._switched or (torch.is_grad_enabled() and base.is_gradient_checkpointing)
        self._switched.setdefault(base, base.config._attn_implementation)
        base.config._attn_implementation = sharing.ATTENTION
        try:
            return self._logps(model, sharing.share(batch, scored), scored)
        finally:
            if not is_needed_later:
                self._release(base)

    def _plain(self, model: torch.nn.Module, batch: dict[str, Tensor], scored: ScoredTokens) -> TokenLogps:
        self._release(self._base(model))
        length = batch["input_ids"].shape[1]
        return self._logps(model, Forward(batch, scored.rows * length + scored.positions), scored, length)

    def _logps(
        self, model: torch.nn.Module, forward: Forward, scored: ScoredTokens, length: int | None = None
    ) -> TokenLogps:
        """Run the model; with several rows of one length, a position that any of them needs is kept in all."""
        inputs, source = forward
        takes = inspect.signature(type(self._base(model)).forward).parameters
        if self._scored_logits_only and "logits_to_keep" in takes:
            row, position = (0, source) if length is None else (scored.rows, scored.positions)
            kept, at = position.unique(return_inverse=True)
            inputs, source = {**inputs, "logits_to_keep": kept}, row * len(kept) + at
        logits = model(**inputs, return_dict=True, use_cache=False).logits.flatten(0, 1)
        means = logits.detach().mean(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        return TokenLogps(token_logps(logits, source, scored.targets), means[source])

    def _base(self, model: torch.nn.Module) -> PreTrainedModel:
        """Return the transformers model inside the wrappers of the trainer and of PEFT."""
        inner = self._accelerator.unwrap_model(model)
        return cast(PreTrainedModel, inner.get_base_model() if isinstance(inner, PeftModel) else inner)

    def _is_in_window(self, model: torch.nn.Module, batch: dict[str, Tensor]) -> bool:
        window = sharing.window(self._base(model))
        return window is None or batch["input_ids"].shape[1] <= window

    def _holds_everywhere(self, holds: bool) -> bool:
        return bool(self._accelerator.gather(torch.tensor([holds], device=self._accelerator.device)).all())

    def _why_not(self, model: torch.nn.Module, batch: dict[str, Tensor], scored: ScoredTokens) -> str | None:
        """Return why sharing must be off, after a trial of both ways without dropout; all ranks agree."""
        base = self._base(model)
        reason = sharing.why_not(base)
        if reason is not None:
            return reason
        was_training = model.training
        model.eval()
        with torch.no_grad():
            plain = self._plain(model, batch, scored).logps
            try:
                shared = self._shared(model, batch, scored).logps
            except (TypeError, ValueError, KeyError, NotImplementedError) as err:
                return f"the model refuses: {' '.join(str(err).split())[:200]}"
            finally:
                model.train(was_training)
        differences = (shared - plain).abs() / plain.abs().clamp(min=1)
        is_half = self._accelerator.mixed_precision != "no" or base.dtype in (torch.bfloat16, torch.float16)
        found = differences.mean() if is_half else differences.max()
        worst = self._accelerator.gather(found.nan_to_num(nan=torch.inf)[None]).max().item()
        if worst <= (HALF_TOLERANCE if is_half else TOLERANCE):
            return None
        return f"its log-probabilities of a batch differ by {worst:.2g} from those of the plain way"


def batch_inputs(batch: dict[str, Any]) -> dict[str, Tensor]:
    """Return the part of a batch that the model takes."""
    ours = ("labels", "turns", "turn_weights", "pair_keys")
    return {name: value for name, value in batch.items() if name not in ours}
