"""Turn a pair of dialogues into token ids, labels and the lengths of its agent turns.

The labels are those of the host's SFT for the whole dialogue, token for token: every agent turn, its end-of-turn token
included. Which of them a stage scores is decided later, by the collator (`step.masks`). A dialogue longer than
`cutoff_len` loses turns of the shared history, never a scored one.

Reasoning templates are rendered as the host's SFT renders them, an empty thought before every agent turn without one,
also before the inner ones: so a prefix of the dialogue is a prefix of the tokens.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from os.path import commonprefix
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError, one_line
from .reading import Message


Turn = tuple[list[int], list[int]]
"""The tokens before an agent turn, and its own."""

IGNORE_INDEX = -100
"""The label of a token that is not trained on, as everywhere in PyTorch."""

SIDES = ("chosen", "rejected")
"""Their order in a batch, and in every list of two."""


RENDERING_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What the host's templates raise for tools and calls that are not as they expect."""

MAX_REASON = 120
"""Characters of such an error that are shown; some hold the whole text."""


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
        """64 bits of a digest of all that the pair's log-probabilities depend on, but for the model."""
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
    """

    template: Any
    tokenizer: Any
    processor: Any
    cutoff_len: int

    def dialogue(self, messages: list[Message], tools: str = "") -> Encoded:
        """Encode a dialogue that alternates and ends on an agent turn; a leading system message is optional.

        Raises:
            UserError: if the template puts no token between two agent turns.
        """
        return self._joined(self._turns(messages, tools))

    def _turns(self, messages: list[Message], tools: str) -> list[Turn]:
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        messages = messages[1:] if messages[0]["role"] == "system" else messages
        messages = self.template.mm_plugin.process_messages(messages, [], [], [], self.processor)
        turns: list[Turn] = self.template.encode_multiturn(self.tokenizer, messages, system, tools)
        return turns

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

    def prompt(self, messages: list[Message]) -> list[int]:
        """Return the tokens before the agent's next turn in training, for a dialogue that ends on a human turn."""
        encoded = self.dialogue([*messages, {"role": "assistant", "content": "."}])
        return encoded.input_ids[: -encoded.turn_lengths[-1]]

    def pair(
        self, chosen: list[Message], rejected: list[Message], first_turn: int, tools: str = "", shorten: bool = False
    ) -> EncodedPair:
        """Encode both sides; with `shorten`, leave out the oldest inner turns of the shared history until they fit.

        The system message, the first human turn and everything from the last human turn before the first scored agent
        turn on always stay.
        """
        shortened = partial(self._shortened, chosen, rejected, first_turn, tools)
        pair = shortened(0)
        if pair.fits or not shorten or not first_turn:
            return pair
        excess = max(len(pair.chosen.input_ids), len(pair.rejected.input_ids)) - self.cutoff_len
        pair = shortened(_turns_to_drop(self._turns(chosen, tools), first_turn, excess))
        # What a turn costs may depend on its number, so the next counts are tried as well.
        while not pair.fits and pair.first_turn:
            pair = shortened(pair.dropped_turns + 1)
        while pair.dropped_turns > 1 and (longer := shortened(pair.dropped_turns - 1)).fits:
            pair = longer
        return pair

    def _shortened(
        self, chosen: list[Message], rejected: list[Message], first_turn: int, tools: str, dropped: int
    ) -> EncodedPair:
        """Encode both sides without so many of the oldest inner turns."""
        opening = 2 if chosen[0]["role"] == "system" else 1
        better, worse = (
            self.dialogue(side[:opening] + side[opening + 2 * dropped :], tools) for side in (chosen, rejected)
        )
        fits = max(len(better.input_ids), len(worse.input_ids)) <= self.cutoff_len
        return EncodedPair(better, worse, first_turn - dropped, dropped, fits)

    def check_calls(self, messages: list[Message], tools: str) -> None:
        """Refuse tools and function calls that the template cannot render.

        Raises:
            UserError: naming the turn, if it is one.
        """
        partner, answer = {"role": "user", "content": "."}, {"role": "assistant", "content": "."}
        self._check_rendering([partner, answer], tools, "its tools", "a JSON list of objects with name and parameters")
        for index, message in enumerate(messages):
            if message["role"] == "function":
                expected = 'JSON: {"name": …, "arguments": {…}}, or a list of such calls'
                self._check_rendering([partner, message], "", f"turn {index}, a function call,", expected)

    def _check_rendering(self, messages: list[Message], tools: str, name: str, expected: str) -> None:
        try:
            self.template.encode_multiturn(self.tokenizer, messages, "", tools)
        except RENDERING_ERRORS as err:
            raise UserError(
                f"{name} cannot be rendered by the template ({type(err).__name__}: {one_line(err)[:MAX_REASON]}); "
                f"expected {expected}"
            ) from None

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


def _turns_to_drop(turns: list[Turn], first_turn: int, excess: int) -> int:
    """Return how many of the oldest inner turns hold so many tokens, or all of them before the first scored turn."""
    saved = accumulate(len(turns[turn][1]) + len(turns[turn + 1][0]) for turn in range(first_turn))
    return next((turn for turn, tokens in enumerate(saved, 1) if tokens >= excess), first_turn)


@dataclass
class PairProcessor:
    """Encodes batches of pairs for the host's `map`, in the place of the host's own processor.

    A row of the result holds, for either side, `*_input_ids`, `*_labels` (all agent turns) and `*_turn_lengths`, and
    `first_turn`, `dropped_turns`, `fits`, `length`, `key`, `origin` and `stage`.
    """

    encoder: DialogueEncoder
    shorten: bool
    stage: str

    def preprocess_dataset(self, examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Encode a batch; no pair is dropped here, those that do not fit are marked."""
        columns = ("chosen", "rejected", "first_turn", "tools")
        rows = [self._row(*values) for values in zip(*(examples[column] for column in columns), strict=True)]
        encoded = {name: [row[name] for row in rows] for name in rows[0]}
        return {**encoded, "origin": examples["origin"], "stage": [self.stage] * len(rows)}

    def _row(self, chosen: list[Message], rejected: list[Message], first_turn: int, tools: str) -> dict[str, Any]:
        pair = self.encoder.pair(chosen, rejected, first_turn, tools, self.shorten)
        row = {"first_turn": pair.first_turn, "dropped_turns": pair.dropped_turns, "fits": pair.fits}
        row |= {"length": pair.length, "key": pair.key}
        for side in SIDES:
            for name, value in getattr(pair, side)._asdict().items():
                row[f"{side}_{name}"] = value
        return row

    def print_data_example(self, example: dict[str, Any]) -> None:
        """Print the scored turns of a pair as text, each in brackets, as they are trained."""
        lines = [example["origin"]]
        for side in ("rejected", "chosen"):
            labels = [label for label in example[f"{side}_labels"] if label != IGNORE_INDEX]
            ends = list(accumulate(example[f"{side}_turn_lengths"], initial=0))
            for turn in range(example["first_turn"], len(ends) - 1):
                text = self.encoder.tokenizer.decode(labels[ends[turn] : ends[turn + 1]])
                lines.append(f"  {side}, agent turn {turn}: [{text}]")
        print("\n".join(lines))
