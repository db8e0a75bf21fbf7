"""The masks: which tokens of a batch of pairs carry loss, and with which weight.

Rows hold the labels of every agent turn of both dialogues. This collator, and nothing else, decides which of them are
scored and how much each turn weighs: nothing before `first_turn`; from there on what the data says, and where it says
nothing, the stage's weight times the factor of a rule, if one is asked for. A turn of weight 0 is context.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..data.encoding import IGNORE_INDEX, SIDES
from ..data.weights import UNWEIGHTED
from ..host.names import PairwiseDataCollatorWithPadding
from ..stages import RULES
from .loss import turn_weights
from .reference_table import Table


@dataclass
class SegmentDataCollator(PairwiseDataCollatorWithPadding):
    """Batches B encoded pairs into 2B rows, all chosen rows first.

    Returns `input_ids`, `attention_mask`, `labels` (2B, T) as the host's collator does, with IGNORE_INDEX wherever
    nothing is scored; `turns` (2B, T), the turn of each label that is left, from 0 at `first_turn`; `turn_weights`
    (2B, K) of these turns, to be read by `weights_of`; and the `pair_keys` (B,).

    Attributes:
        stage: a name in `STAGES`.
        gamma: DMPO's γ.
        rule: a name in `RULES`, or "stage" for none.
        table: what the reference says of the turns, which a rule reads; None as long as it is not known.
    """

    stage: str = "sdpo"
    gamma: float = 0.7
    rule: str = "stage"
    table: Table | None = None

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Mask, pad and stack the features, which are rows of `PairProcessor`."""
        rows: list[dict[str, Any]] = [{"images": None, "videos": None, "audios": None} for _ in features]
        turns, weights = [], []
        # The host stacks all chosen sides before all rejected ones.
        for side in SIDES:
            for feature, row in zip(features, rows, strict=True):
                labels, turns_of_labels, weights_of_turns = self._masked(feature, side)
                turns.append(turns_of_labels)
                weights.append(weights_of_turns)
                row[f"{side}_input_ids"] = feature[f"{side}_input_ids"]
                row[f"{side}_attention_mask"] = [1] * len(labels)
                row[f"{side}_labels"] = labels.tolist()
        batch: dict[str, Tensor] = super().__call__(rows)
        batch["turns"] = torch.zeros_like(batch["labels"])
        # Row by row and from left to right, wherever the host has padded.
        batch["turns"][batch["labels"] != IGNORE_INDEX] = torch.cat(turns)
        # As bits, since DeepSpeed casts the floats of a batch to the 16 bits that it trains in.
        batch["turn_weights"] = pad_sequence(weights, batch_first=True).view(torch.int64)
        batch["pair_keys"] = torch.tensor([feature["key"] for feature in features])
        return batch

    def _masked(self, feature: dict[str, Any], side: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return a side's labels without those that are not scored, the turn of each other, and the turns' weights."""
        weights = torch.tensor(self._weights(feature, side), dtype=torch.float64)
        turns = torch.arange(len(weights)).repeat_interleave(torch.tensor(feature[f"{side}_turn_lengths"]))
        labels = torch.tensor(feature[f"{side}_labels"])
        is_label, is_scored = labels != IGNORE_INDEX, weights[turns] != 0
        labels[is_label] = labels[is_label].where(is_scored, IGNORE_INDEX)
        first = feature["first_turn"]
        return labels, turns[is_scored] - first, weights[first:]

    def _weights(self, feature: dict[str, Any], side: str) -> list[float]:
        """Return the weight of every agent turn of a side, 0 where it carries no loss."""
        given, first = feature[f"{side}_turn_weights"], feature["first_turn"]
        weights = turn_weights(self.stage, len(given), first, self.gamma)
        filled = [turn for turn in range(first, len(given)) if given[turn] == UNWEIGHTED and weights[turn]]
        if self.rule in RULES and filled:
            assert self.table is not None
            means = self.table[feature["key"]][SIDES.index(side)].means()
            factors = RULES[self.rule]([means[turn - first] for turn in filled])
            for turn, factor in zip(filled, factors, strict=True):
                weights[turn] *= factor
        return weights[:first] + [
            weight if own == UNWEIGHTED else own for weight, own in zip(weights[first:], given[first:], strict=True)
        ]
