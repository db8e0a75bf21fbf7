"""Turn a pair of dialogues into token ids, labels and the lengths of its agent turns.

The labels are those of the host's SFT for the whole dialogue, token for token: every agent turn, its end-of-turn token
included. Which of them a stage scores is decided later, by the collator (`step.masks`). A dialogue longer than
`cutoff_len` loses turns of the shared history, never a scored one.

Reasoning templates are rendered as the host's SFT renders them, an empty thought before every agent turn without one,
also before the inner ones: so a prefix of the dialogue is a prefix of the tokens.

What the host has no form for, several results of tools in a row for instance, is written by `rendering`.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from os.path import commonprefix
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..screen.lines import folded
from .calls import canonical_tools
from .reading import Message, is_agent
from .rendering import Block, TemplateParts, blocks_of, check_calls, partner_text, spelled, system_text
from .weights import UNWEIGHTED, weight_of


Turn = tuple[list[int], list[int]]
"""The tokens before an agent turn, and its own."""

IGNORE_INDEX = -100
"""The label of a token that is not trained on, as everywhere in PyTorch."""

SIDES = ("chosen", "rejected")
"""Their order in a batch, and in every list of two."""


NOBODY = {"role": "user", "content": ""}
"""Stands where the agent speaks first, for the host."""


class Encoded(NamedTuple):
    """One dialogue of n tokens with T agent turns.

    Attributes:
        input_ids: n token ids.
        labels: n labels, IGNORE_INDEX outside the agent turns.
        turn_lengths: T numbers of labels; label j of all the labels belongs to the turn in whose run j falls.
    """

    input_ids: list[int]
    labels: list[int]
    turn_lengths: list[int]


class EncodedPair(NamedTuple):
    """Both dialogues of a pair, and what had to go so that they fit.

    Attributes:
        chosen: the better dialogue.
        rejected: the worse one.
        first_turn: number (from 0) of the first scored agent turn on both sides, after shortening.
        dropped_turns: agent turns of the shared history that were left out.
        fits: whether both sides are within the cutoff.
    """

    chosen: Encoded
    rejected: Encoded
    first_turn: int
    dropped_turns: int
    fits: bool

    @property
    def length(self) -> int:
        """The number of tokens to encode if what the sides have in common is encoded once."""
        sides = [side.input_ids for side in (self.chosen, self.rejected)]
        return sum(map(len, sides)) - len(commonprefix(sides))

    @property
    def key(self) -> int:
        """64 bits of a digest of all that the log-probabilities of its turns depend on, but for the model."""
        digest = hashlib.blake2b(digest_size=8)
        for numbers in (*self.chosen, *self.rejected, [self.first_turn]):
            digest.update(len(numbers).to_bytes(8, "big") + np.asarray(numbers, dtype=np.int32).tobytes())
        return int.from_bytes(digest.digest(), "big", signed=True)


@dataclass
class DialogueEncoder:
    """Encodes dialogues with a template of the host.

    Attributes:
        template: the host's Template.
        tokenizer: after the template has fixed its special tokens.
        processor: the host's multimodal processor, None for text models.
        cutoff_len: longest dialogue in tokens.
        parts: the template as texts.
    """

    template: Any
    tokenizer: Any
    processor: Any
    cutoff_len: int
    parts: TemplateParts

    def dialogue(self, messages: list[Message], tools: str = "") -> Encoded:
        """Encode a dialogue that ends on an agent turn, and whose order is that of `reading.FOLLOWERS`.

        Args:
            messages: a leading system message is optional.
            tools: their JSON, or nothing.

        Raises:
            UserError: if the template puts no token between two agent turns, or cannot render a turn.
        """
        return self._joined(self._turns(messages, tools))

    def _turns(self, messages: list[Message], tools: str) -> list[Turn]:
        """Return one turn a block: as the host encodes it, or, of none or several messages of the partner's, ours."""
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        messages = messages[1:] if messages[0]["role"] == "system" else messages
        tools = canonical_tools(tools)
        messages = self.template.mm_plugin.process_messages(messages, [], [], [], self.processor)
        blocks = blocks_of([spelled(self.parts, message) for message in messages])
        hosts = [message for block in blocks for message in ((block.partner or [NOBODY])[-1], block.agent)]
        turns: list[Turn] = self.template.encode_multiturn(self.tokenizer, hosts, system, tools)
        for number, block in enumerate(blocks):
            # There the host would lose the system message.
            loses = number == 0 and self.parts.system_in_first_turn and hosts[0]["role"] != "user"
            if len(block.partner) != 1 or loses:
                turns[number] = self._source(block, number == 0, system, tools), turns[number][1]
        return turns

    def _source(self, block: Block, is_first: bool, system: str, tools: str) -> list[int]:
        """Return the tokens before the agent's turn of a block, encoded as a whole."""
        lead = (self.parts.prefix, system_text(self.parts, system, tools)) if is_first else ("", "")
        text = partner_text(self.parts, block.partner, *lead)
        source: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        content = block.agent["content"]
        if self.parts.strips_thoughts:
            content = self.template.remove_thought(content)
        if self.parts.prompts_with_thought and not any(word.strip() in content for word in self.parts.thought_words):
            source += self.template.get_thought_word_ids(self.tokenizer)
        return source

    def _joined(self, turns: list[Turn]) -> Encoded:
        input_ids: list[int] = []
        labels: list[int] = []
        turn_lengths: list[int] = []
        # Templates with `efficient_eos` mark the end of an inner turn on the first token of the next human turn.
        late_end = [self.tokenizer.eos_token_id] if self.template.efficient_eos else []
        for source, target in turns:
            end = late_end if turn_lengths else []
            if len(source) < len(end):
                raise UserError("this template puts nothing between two agent turns; choose another `template`")
            if end:
                turn_lengths[-1] += 1
            input_ids += source + target
            labels += end + [IGNORE_INDEX] * (len(source) - len(end)) + target
            turn_lengths.append(len(target))
        turn_lengths[-1] += len(late_end)
        return Encoded(input_ids + late_end, labels + late_end, turn_lengths)

    def prompt(self, messages: list[Message], tools: str = "") -> list[int]:
        """Return the tokens before the agent's next turn in training, for a dialogue that ends before one."""
        encoded = self.dialogue([*messages, {"role": "assistant", "content": "."}], tools)
        return encoded.input_ids[: -encoded.turn_lengths[-1]]

    def pair(
        self, chosen: list[Message], rejected: list[Message], first_turn: int, tools: str = "", shorten: bool = False
    ) -> EncodedPair:
        """Encode both sides; with `shorten`, leave out the oldest inner turns of the shared history until they fit.

        The system message, what stands before the agent's first turn, and everything from the last turn of the
        partner's before the first scored one on always stay.
        """
        shortened = partial(self._shortened, chosen, rejected, first_turn, tools)
        pair = shortened(0)
        most = first_turn - 1
        if pair.fits or not shorten or most < 1:
            return pair
        excess = max(len(pair.chosen.input_ids), len(pair.rejected.input_ids)) - self.cutoff_len
        pair = shortened(_turns_to_drop(self._turns(chosen, tools), most, excess))
        # What a turn costs may depend on its number, so the next counts are tried as well.
        while not pair.fits and pair.dropped_turns < most:
            pair = shortened(pair.dropped_turns + 1)
        while pair.dropped_turns > 1 and (longer := shortened(pair.dropped_turns - 1)).fits:
            pair = longer
        return pair

    def _shortened(
        self, chosen: list[Message], rejected: list[Message], first_turn: int, tools: str, dropped: int
    ) -> EncodedPair:
        """Encode both sides without so many of the oldest inner turns."""
        better, worse = (self.dialogue(_without_turns(side, dropped), tools) for side in (chosen, rejected))
        fits = max(len(better.input_ids), len(worse.input_ids)) <= self.cutoff_len
        return EncodedPair(better, worse, first_turn - dropped, dropped, fits)

    def check_calls(self, messages: list[Message], tools: str) -> None:
        """Refuse what the template cannot render, as `rendering.check_calls` does."""
        check_calls(self.parts, messages, tools)

    def check_template(self, name: str | None) -> None:
        """Refuse a template under which the model would be trained in another form than it is served.

        Raises:
            UserError: if a prefix of a dialogue is not a prefix of its tokens, or the tokenizer lacks a token of it.
        """
        probe = [
            {"role": "assistant" if index % 2 else "user", "content": f'{{"say": "{index}"}}'} for index in range(6)
        ]
        whole = self.template.encode_multiturn(self.tokenizer, probe, "Be kind.", "")
        if any(token is None for source, target in whole for token in source + target):
            raise UserError(f"template {name}: the tokenizer lacks one of its tokens; choose the model's `template`")
        for end in (2, 4):
            if self.template.encode_multiturn(self.tokenizer, probe[:end], "Be kind.", "") != whole[: end // 2]:
                raise UserError(
                    f"template {name}: a prefix of a dialogue is not a prefix of its tokens, so inner turns would be "
                    "trained in another form than they are served; choose another `template`"
                )


def _without_turns(messages: list[Message], dropped: int) -> list[Message]:
    """Return a dialogue without so many of the agent's first turns, and the partner's that follow them."""
    agents = [index for index, message in enumerate(messages) if is_agent(message)]
    return messages[: agents[0]] + messages[agents[dropped] :]


def _turns_to_drop(turns: list[Turn], most: int, excess: int) -> int:
    """Return how many of the oldest inner turns hold so many tokens, `most` if that is not enough."""
    saved = accumulate(len(turns[turn][1]) + len(turns[turn + 1][0]) for turn in range(most))
    return next((turn for turn, tokens in enumerate(saved, 1) if tokens >= excess), most)


@dataclass
class PairProcessor:
    """Encodes batches of pairs for the host's `map`, in the place of the host's own processor.

    A row of the result holds, for either side, `*_input_ids`, `*_labels` (all agent turns), `*_turn_lengths` and
    `*_turn_weights` (the data's, or UNWEIGHTED), and `first_turn`, `dropped_turns`, `fits`, `length`, `key`, `origin`,
    `gap`, `stage` and `flags`.
    """

    encoder: DialogueEncoder
    shorten: bool
    stage: str
    flags: str = ""
    """What names the flagged pairs that were left out."""

    def preprocess_dataset(self, examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Encode a batch; no pair is dropped here, those that do not fit are marked."""
        columns = ("chosen", "rejected", "first_turn", "tools")
        rows = [self._row(*values) for values in zip(*(examples[column] for column in columns), strict=True)]
        encoded = {name: [row[name] for row in rows] for name in rows[0]}
        kept = {name: examples[name] for name in ("origin", "gap")}
        return {**encoded, **kept, "stage": [self.stage] * len(rows), "flags": [self.flags] * len(rows)}

    def _row(self, chosen: list[Message], rejected: list[Message], first_turn: int, tools: str) -> dict[str, Any]:
        pair = self.encoder.pair(chosen, rejected, first_turn, tools, self.shorten)
        row: dict[str, Any] = {"first_turn": pair.first_turn, "dropped_turns": pair.dropped_turns, "fits": pair.fits}
        row |= {"length": pair.length, "key": pair.key}
        for side, messages in zip(SIDES, (chosen, rejected), strict=True):
            for name, value in getattr(pair, side)._asdict().items():
                row[f"{side}_{name}"] = value
            weights = [weight_of(message) for message in messages if is_agent(message)][pair.dropped_turns :]
            row[f"{side}_turn_weights"] = [UNWEIGHTED if weight is None else weight for weight in weights]
        return row

    def print_data_example(self, example: dict[str, Any]) -> None:
        """Print the turns that may be scored as text, each in brackets, with the weights that the data gives them."""
        lines = [example["origin"]]
        for side in ("rejected", "chosen"):
            labels = [label for label in example[f"{side}_labels"] if label != IGNORE_INDEX]
            ends = list(accumulate(example[f"{side}_turn_lengths"], initial=0))
            for turn in range(example["first_turn"], len(ends) - 1):
                text = self.encoder.tokenizer.decode(labels[ends[turn] : ends[turn + 1]])
                weight = example[f"{side}_turn_weights"][turn]
                weighs = "" if weight in (1, UNWEIGHTED) else f", weight {weight:g}"
                lines.append(f"  {side}, agent turn {turn}{weighs}: [{text}]")
        print("\n".join(map(folded, lines)), flush=True)
