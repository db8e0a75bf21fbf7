"""The masks: which tokens of a batch of pairs carry loss, and with which weight.

Rows hold the labels of every agent turn of both dialogues. This collator, and nothing else, decides which of them are
scored: it blanks the labels of the turns before `first_turn` and puts the turns' weights on the rest.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.encoding import IGNORE_INDEX, SIDES
from ..host.names import PairwiseDataCollatorWithPadding
from .loss import turn_weights


@dataclass
class SegmentDataCollator(PairwiseDataCollatorWithPadding):
    """Batches B encoded pairs into 2B rows, all chosen rows first.

    Returns `input_ids`, `attention_mask`, `labels` (2B, T) as the host's collator does, and `loss_weights` (2B, T)
    float32, which is above 0 exactly where `labels` is not IGNORE_INDEX, and the `pair_keys` (B,).

    Attributes:
        stage: a name in `STAGES`.
        gamma: DMPO's γ.
    """

    stage: str = "sdpo"
    gamma: float = 0.7

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Mask, pad and stack the features, which are rows of `PairProcessor`."""
        rows: list[dict[str, Any]] = [{"images": None, "videos": None, "audios": None} for _ in features]
        weights = []
        # The host stacks all chosen sides before all rejected ones.
        for side in SIDES:
            for feature, row in zip(features, rows, strict=True):
                labels = torch.tensor(feature[f"{side}_labels"])
                weights.append(self._weights(labels, feature[f"{side}_turn_lengths"], feature["first_turn"]))
                row[f"{side}_input_ids"] = feature[f"{side}_input_ids"]
                row[f"{side}_attention_mask"] = [1] * len(labels)
                row[f"{side}_labels"] = labels.masked_fill(weights[-1] == 0, IGNORE_INDEX).tolist()
        batch: dict[str, Tensor] = super().__call__(rows)
        batch["loss_weights"] = torch.zeros(batch["labels"].shape)
        # Row by row and from left to right, wherever the host has padded.
        batch["loss_weights"][batch["labels"] != IGNORE_INDEX] = torch.cat([row[row > 0] for row in weights])
        batch["pair_keys"] = torch.tensor([feature["key"] for feature in features])
        return batch

    def _weights(self, labels: Tensor, turn_lengths: list[int], first_turn: int) -> Tensor:
        """Return the weights of the n tokens of one dialogue: (n,) float32, 0 where nothing is scored."""
        per_turn = torch.tensor(turn_weights(self.stage, len(turn_lengths), first_turn, self.gamma))
        weights = torch.zeros(len(labels))
        weights[labels != IGNORE_INDEX] = per_turn.repeat_interleave(torch.tensor(turn_lengths))
        return weights
