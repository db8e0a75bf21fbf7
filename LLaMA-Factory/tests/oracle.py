"""The losses of the pair stages written slowly and obviously, as the oracle of the tests.

One forward pass a session, no batch, no padding, Python loops over tokens. What is a label, and of which agent turn,
is taken from the host's own SFT processor, so nothing here shares code or ideas with the package under test.
Agent turns count from 1 everywhere, and a span (first, last) of them is closed.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
from llamafactory.data.template import Template
from llamafactory.hparams import DataArguments
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast


IGNORE = -100
HUGE_CUTOFF = 1_000_000_000
AGENT_ROLES = ("assistant", "function")
Message = dict[str, str]
Span = tuple[int, int]
Given = dict[int, float]  # the weights that the data gives, by agent turn

TOY_VOCAB_SIZE = 400
TOY_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
TOY_SPECIAL_TOKENS = (  # mistral, chatml and qwen, llama3
    *("<s>", "</s>", "<pad>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"),
)
TOY_CORPUS = (
    "You are a friendly seller and the buyer wants to talk with you about the price of the old blue bicycle.",
    '{"action_type": "speak", "argument": "I think that we should share the blanket, what do you think?"}',
    '{"action_type": "leave", "argument": ""} {"action_type": "action", "argument": "hands the letter to her friend"}',
    "user assistant system The weather is lovely today, isn't it? Let us walk to the lake and then to the market.",
)


class Side(NamedTuple):
    """One session as the host's SFT stage sees it; three lists of one length.

    The logits at position p - 1 predict labels[p], which is IGNORE where nothing is trained on; turns[p] is the number
    of the agent turn that the label at p belongs to, and 0 where there is none.
    """

    input_ids: list[int]
    labels: list[int]
    turns: list[int]


def host_sft_example(
    template: Template, tokenizer: PreTrainedTokenizerFast, messages: list[Message], system: str, tools: str
) -> tuple[list[int], list[int]]:
    """Return input_ids and labels that the host's SFT stage makes of a dialogue ending on an agent turn."""
    data_args = DataArguments(cutoff_len=HUGE_CUTOFF, mask_history=False, train_on_prompt=False)
    processor = SupervisedDatasetProcessor(template=template, tokenizer=tokenizer, processor=None, data_args=data_args)
    copies = [dict(message) for message in messages]
    return processor._encode_data_example(
        prompt=copies[:-1], response=copies[-1:], system=system, tools=tools, images=[], videos=[], audios=[]
    )


def encode_side(
    template: Template, tokenizer: PreTrainedTokenizerFast, messages: list[Message], system: str = "", tools: str = ""
) -> Side:
    """Encode a whole dialogue as the host's SFT stage does, and find the agent turn of each label.

    The dialogue is encoded once up to each agent turn; the labels that are new in the t-th prefix belong to turn t.
    With an `efficient_eos` template the end of a turn is a label on the first token of the next human turn, and a real
    token only after the last turn: a prefix has all the labels of the whole there, but another last input token.

    Args:
        template: a host template of text models, fixed together with the tokenizer.
        tokenizer: it must know every special token of the template.
        messages: user or observation, and assistant or function, in turn; the last one is the agent's.
        system: the template's default one if empty.
        tools: JSON of the tools, or empty.
    """
    whole_ids, whole_labels = host_sft_example(template, tokenizer, messages, system, tools)
    assert len(whole_ids) == len(whole_labels), "the host made input_ids and labels of different lengths"
    turns = [0] * len(whole_labels)
    seen = 0
    for turn in range(1, len(messages) // 2 + 1):
        prefix_ids, prefix_labels = host_sft_example(template, tokenizer, messages[: 2 * turn], system, tools)
        own = len(prefix_ids) - 1 if template.efficient_eos else len(prefix_ids)
        assert prefix_ids[:own] == whole_ids[:own], f"the tokens up to turn {turn} are no prefix of the dialogue's"
        assert prefix_labels == whole_labels[: len(prefix_labels)], f"the labels up to turn {turn} are no prefix"
        for position in range(seen, len(prefix_labels)):
            if prefix_labels[position] != IGNORE:
                turns[position] = turn
        seen = len(prefix_labels)
    assert seen == len(whole_labels)
    return Side(list(whole_ids), list(whole_labels), turns)


def scored(side: Side, first: int, last: int) -> list[int]:
    """Return side.turns with every turn outside the closed span first..last set to 0."""
    return [turn if first <= turn <= last else 0 for turn in side.turns]


def turn_weight(stage: Literal["sdpo", "eto", "dmpo"], t: int, total: int, gamma: float) -> float:
    """Return the weight of agent turn t of total, t from 1.

    1 for sdpo and eto; (1 - gamma^(T - t0)) / (1 - gamma^T) with t0 = t - 1 for dmpo, (T - t0) / T if gamma is 1.
    """
    if stage != "dmpo":
        return {"sdpo": 1.0, "eto": 1.0}[stage]
    t0 = t - 1
    return (total - t0) / total if gamma == 1 else (1 - gamma ** (total - t0)) / (1 - gamma**total)


def token_logps(model: PreTrainedModel, side: Side) -> list[torch.Tensor]:
    """Return one float64 scalar a position: log p(labels[p] | input_ids[:p]) where a turn is trained on, else 0.

    A label at position 0 has nothing before it that could predict it, so it counts 0 as well.
    """
    input_ids = torch.tensor([side.input_ids], dtype=torch.long)
    logits = model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).logits[0].to(torch.float64)
    logps = torch.log_softmax(logits, dim=-1)  # (T, V)
    result = [torch.zeros((), dtype=torch.float64) for _ in side.input_ids]
    for p in range(1, len(side.input_ids)):
        if side.turns[p] > 0:
            result[p] = logps[p - 1, side.labels[p]]
    return result


def side_weights(stage: str, span: Span, gamma: float, given: Given) -> dict[int, float]:
    """Return the weight of each agent turn of a span: the given one, else that of the stage.

    The dialogue is taken to end with its last turn whose weight is not given as 0, so T and t know nothing of the rest.
    """
    first, last = span
    while given.get(last) == 0:
        last -= 1
    total = last - first + 1
    return {t: given.get(t, turn_weight(stage, t - first + 1, total, gamma)) for t in range(first, last + 1)}


def weighted_mean(model: PreTrainedModel, side: Side, weights: dict[int, float]) -> torch.Tensor:
    """Return Σ w · log p / Σ w over the tokens of the turns that have a weight."""
    logps = token_logps(model, side)
    total, length = torch.zeros((), dtype=torch.float64), 0.0
    for p, turn in enumerate(side.turns):
        if turn in weights and p > 0:
            total = total + weights[turn] * logps[p]
            length += weights[turn]
    return total / length


def averaged_loss(
    name: Literal["ipo", "orpo", "simpo"],
    policy: tuple[torch.Tensor, ...],
    reference: tuple[torch.Tensor, ...],
    beta: float,
    simpo_gamma: float,
) -> torch.Tensor:
    """Return the loss of one pair from the means of its chosen and its rejected side; formulas as published.

    IPO, arXiv 2310.12036, equation 17; ORPO, 2403.07691, equations 6 and 7; SimPO, 2405.14734, equation 6.
    """
    log_sigmoid = torch.nn.functional.logsigmoid
    if name == "ipo":
        return (policy[0] - reference[0] - policy[1] + reference[1] - 1 / (2 * beta)) ** 2
    if name == "simpo":
        return -log_sigmoid(beta * (policy[0] - policy[1]) - simpo_gamma)
    odds = [mean.exp() / (1 - mean.exp()) for mean in policy]
    return -policy[0] - beta * log_sigmoid((odds[0] / odds[1]).log())


def weighted_log_ratio(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    side: Side,
    span: Span,
    stage: str,
    gamma: float,
    given: Given | None = None,
) -> torch.Tensor:
    """Sum weight(t, T) * (log policy - log reference) over the tokens of a span's T agent turns, t from 1 in it."""
    weights = side_weights(stage, span, gamma, given or {})
    policy_logps = token_logps(policy, side)
    with torch.no_grad():
        reference_logps = token_logps(reference, side)
    result = torch.zeros((), dtype=torch.float64)
    for p, turn in enumerate(scored(side, *span)):
        if turn in weights:
            result = result + weights[turn] * (policy_logps[p] - reference_logps[p])
    return result


def pair_loss(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    chosen: Side,
    rejected: Side,
    chosen_span: Span,
    rejected_span: Span,
    stage: Literal["sdpo", "eto", "dmpo"],
    beta: float,
    gamma: float = 0.7,
    chosen_given: Given | None = None,
    rejected_given: Given | None = None,
) -> torch.Tensor:
    """Return the loss of one pair, a float64 scalar that is differentiable in the policy.

    -log sigmoid( sum over tokens of the chosen span of   beta * weight(t, T_w) * (log policy - log reference)
                - sum over tokens of the rejected span of beta * weight(t, T_l) * (log policy - log reference) )

    T_w and T_l are the numbers of agent turns of the chosen and of the rejected span, and t counts from its first.
    A weight that is given for a turn takes the place of weight(t, T).
    """
    chosen_sum = weighted_log_ratio(policy, reference, chosen, chosen_span, stage, gamma, chosen_given)
    rejected_sum = weighted_log_ratio(policy, reference, rejected, rejected_span, stage, gamma, rejected_given)
    return -torch.nn.functional.logsigmoid(beta * (chosen_sum - rejected_sum))


def first_difference(chosen_messages: list[Message], rejected_messages: list[Message]) -> int:
    """Return the index of the first message that differs, or that only one side has.

    Raises:
        ValueError: if the two dialogues are equal.
    """
    for index in range(max(len(chosen_messages), len(rejected_messages))):
        if chosen_messages[index : index + 1] != rejected_messages[index : index + 1]:
            return index
    raise ValueError("the two dialogues do not differ")


def agent_turn_indices(messages: list[Message]) -> list[int]:
    """Return the indices of the agent's messages; the list's n-th element is agent turn n."""
    return [index for index, message in enumerate(messages) if message["role"] in AGENT_ROLES]


def segment_spans(
    chosen_messages: list[Message],
    rejected_messages: list[Message],
    segment: Span | None = None,
    scope: Literal["segment", "turn"] = "segment",
) -> tuple[Span, Span]:
    """Return the closed spans of agent turns (chosen, rejected) that stage sdpo scores.

    From the first agent turn that differs to the last one of the record, or of the half-open interval `segment` over
    the messages; with scope "turn" only the first one that differs.

    Raises:
        ValueError: if no agent turn present on both sides differs, or the segment does not start at the first one.
    """
    chosen_turns, rejected_turns = agent_turn_indices(chosen_messages), agent_turn_indices(rejected_messages)
    first = 1
    for index_w, index_l in zip(chosen_turns, rejected_turns, strict=False):
        if chosen_messages[index_w] != rejected_messages[index_l]:
            break
        first += 1
    else:
        raise ValueError("no agent turn that both sides have differs")
    start, end = segment or (index_w, max(len(chosen_messages), len(rejected_messages)))
    if not index_w == index_l == start:
        raise ValueError(f"the first differing agent turns are at {index_w} and {index_l}, the segment at {start}")
    if scope == "turn":
        return (first, first), (first, first)
    last_w = len([index for index in chosen_turns if index < end])
    last_l = len([index for index in rejected_turns if index < end])
    return (first, last_w), (first, last_l)


def session_spans(chosen_messages: list[Message], rejected_messages: list[Message]) -> tuple[Span, Span]:
    """Return the closed spans of agent turns (chosen, rejected) that stages eto and dmpo score.

    An agent turn is left out if both sessions are the same up to and with it; all are scored if that leaves a side
    with none.
    """
    ends = [agent_turn_indices(messages) for messages in (chosen_messages, rejected_messages)]
    shared = 0
    while shared < min(map(len, ends)):
        if chosen_messages[: ends[0][shared] + 1] != rejected_messages[: ends[1][shared] + 1]:
            break
        shared += 1
    first = 1 if shared in map(len, ends) else shared + 1
    return (first, len(ends[0])), (first, len(ends[1]))


def random_llama(
    vocab_size: int, seed: int, dtype: torch.dtype = torch.float64, layers: int = 2, hidden: int = 32
) -> LlamaForCausalLM:
    """Return a tiny Llama in evaluation mode; its weights are large enough that the context changes what it says."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.2,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).to(dtype).eval()


def toy_tokenizer(extra_special: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer in process; every special token is one id and any text round-trips."""
    specials = list(dict.fromkeys([*TOY_SPECIAL_TOKENS, *extra_special]))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TOY_VOCAB_SIZE,
        min_frequency=1,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TOY_CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **TOY_NAMES)
