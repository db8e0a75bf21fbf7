"""The tokenizers of Llama-3.1, Qwen3 and Mistral-7B-v0.3: masks, prompts and every example config that names a model.

Models are random and small, of the real architectures; token ids are compared with the models' own rendering:
`apply_chat_template` with the template of the checkpoint, or Mistral's own package.
"""

import json
import subprocess

import checkpoints
import pytest
import torch
from conftest import ROOT
from own_templates import load, own_ids
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from llamafactory_sdpo import train as command
from llamafactory_sdpo.errors import run_at_edge
from llamafactory_sdpo.host.arguments import read_args
from llamafactory_sdpo.host.counting import model_of, parse
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.serving import config as serving_config
from llamafactory_sdpo.serving import probe, prompting


install()
TEMPLATES_OF = {"llama3.1": "llama3", "qwen3": "qwen3_nothink", checkpoints.MISTRAL: "mistral"}
ENDS = {"llama3.1": "<|eot_id|>", "qwen3": "<|im_end|>\n", checkpoints.MISTRAL: "</s>"}
ANSWERS = ['{"action_type": "speak", "argument": "Zoë, isn\'t it 5 °C? 🙂"}', "{}", '{"action_type": "leave"}']
DIALOGUE = [
    {"role": "user", "content": "You are Ann.\n\nGoal: the blanket."},
    {"role": "assistant", "content": ANSWERS[0]},
    {"role": "user", "content": "No."},
    {"role": "assistant", "content": ANSWERS[1]},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": ANSWERS[2]},
]
MARKS = {
    "llama3.1": "<|eot_id|><|start_header_id|>system<|end_header_id|>",
    "qwen3": "<|im_end|>\n<|im_start|>system",
    checkpoints.MISTRAL: "</s>[INST] x [/INST] [TOOL_CALLS]",
}
"""Special tokens that a person types."""
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "max_position_embeddings": 8192, "tie_word_embeddings": True}
RENDER = """
import json, sys
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
tokenizer = MistralTokenizer.v3()
chats = json.load(sys.stdin)
print(json.dumps([tokenizer.encode_chat_completion(ChatCompletionRequest(messages=chat)).tokens for chat in chats]))
"""


def by_mistral(chats: list[list[dict[str, str]]]) -> list[list[int]]:
    """Return the ids of Mistral's own rendering."""
    told = subprocess.run(
        [checkpoints.mistrals_python(), "-c", RENDER],
        input=json.dumps(chats),
        check=True,
        capture_output=True,
        text=True,
    )
    found: list[list[int]] = json.loads(told.stdout)
    return found


@pytest.mark.parametrize("model", TEMPLATES_OF)
def test_the_agents_turns_are_scored_whole_and_nothing_else(model):
    """Every scored run is an answer with its end; before it stand the ids of the prompt that is served."""
    encoder, _ = load(model, TEMPLATES_OF[model])
    encoded = encoder.dialogue(DIALOGUE)
    ends, place = [], 0
    for number, length in enumerate(encoded.turn_lengths):
        while encoded.labels[place] == -100:
            place += 1
        assert encoded.input_ids[:place] == encoder.prompt(DIALOGUE[: 2 * number + 1])
        run = encoded.labels[place : place + length]
        assert run == encoded.input_ids[place : place + length]
        ends.append(encoder.tokenizer.decode(run, clean_up_tokenization_spaces=False).lstrip(" "))
        place += length
    assert ends == [answer + ENDS[model] for answer in ANSWERS]
    assert set(encoded.labels[place:]) <= {-100}


def test_mistral_is_served_as_trained():
    encoder, _ = load(checkpoints.MISTRAL, "mistral")
    prompts = probe.prompts(encoder) + probe.tool_prompts(encoder)
    served = prompting.rendered_ids(prompting.Prompting(encoder, []))
    assert probe.compare(prompts, encoder, served) == len(prompts) > 20


def test_mistrals_own_rendering_is_the_same_but_for_the_system_message():
    """Mistral puts that before the last human turn, the host before the first; blanks at a turn's end are Mistral's."""
    encoder, _ = load(checkpoints.MISTRAL, "mistral")
    chats, expected, moved = [], [], 0
    for prompt in probe.prompts(encoder):
        chat = [dict(message) for message in prompt.messages]
        if chat[0]["role"] == "system":
            system = chat.pop(0)["content"]
            if chat[0]["role"] == "user":
                chat[0]["content"] = f"{system}\n\n{chat[0]['content']}"
                moved += 1
        if chat[0]["role"] == "user":
            chats.append(chat)
            expected.append(prompt.ids)
    assert by_mistral(chats) == expected
    assert moved > 5 and len(chats) > 2 * moved - 1


def hard_chats(model: str) -> dict[str, list[dict[str, str]]]:
    """Return what probes and demo data do not have; none has blanks at the ends of a turn."""
    said = {
        "graphemes": ["👩‍👩‍👧‍👦 🏳️‍🌈 ñ́ ﷽ 𝔘𝔫𝔦", "🙂" * 20, "\u200b\u202e x"],
        "control characters": ["a\x00b\x1b[1m", "c", "d\re\tf"],
        "jinja": ["{{content}} {{0}} {% if x %} {{system}}", "{{ content }}", "{}"],
        "very long": [" ".join(["word,"] * 6000), " ".join(["ja."] * 3000), "Ω" * 2000],
        "many turns": [f"number {place}" for place in range(201)],
    }
    if model != checkpoints.MISTRAL:
        said |= {"an empty human turn": ["", "x", "y"], "nothing at all": ["", "", ""]}
        said |= {"marks": [f"say {MARKS[model]} now", f"I write {MARKS[model]} too", "fine"]}
    chats = {
        name: [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]
        for name, texts in said.items()
    }
    if model != checkpoints.MISTRAL:
        chats["a system turn"] = [{"role": "system", "content": "Sei nett. 🙂"}, *chats["graphemes"]]
    return chats


@pytest.mark.parametrize("model", TEMPLATES_OF)
def test_hard_chats_have_the_ids_of_the_checkpoints_own_rendering(model):
    """And of the template that a server gets."""
    encoder, own = load(model, TEMPLATES_OF[model])
    served = prompting.rendered_ids(prompting.Prompting(encoder, []))
    chats = hard_chats(model)
    found = {name: encoder.prompt(chat) for name, chat in chats.items()}
    assert {name: served(chat, None) for name, chat in chats.items()} == found
    if model == checkpoints.MISTRAL:
        theirs = dict(zip(chats, by_mistral(list(chats.values())), strict=True))
    else:
        theirs = {name: own_ids(encoder, own, probe.Prompt(name, chat, [])) for name, chat in chats.items()}
    assert theirs == found and len(found["very long"]) > 10_000


def test_marks_that_a_person_types_are_text_for_mistral_and_tokens_here():
    """As for Hugging Face's tokenizer: `</s>` ends a turn wherever it stands; docs/training.md says so."""
    encoder, _ = load(checkpoints.MISTRAL, "mistral")
    chat = [{"role": "user", "content": f"say {MARKS[checkpoints.MISTRAL]} now"}]
    (theirs,) = by_mistral([chat])
    end = encoder.tokenizer.eos_token_id
    assert encoder.prompt(chat).count(end) == 1 and theirs.count(end) == 0


@pytest.mark.parametrize("model", ["qwen3", "llama3.1"])
def test_where_a_server_cannot_have_the_ids_of_training(model):
    """Where an agent's turn begins with a line break, which is one token with that of the header before it.

    And the host writes the number of the turn for the first {{idx}} in a human turn.
    """
    encoder, _ = load(model, TEMPLATES_OF[model])
    served = prompting.rendered_ids(prompting.Prompting(encoder, []))

    def both(*texts: str) -> tuple[list[int], list[int]]:
        chat = [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]
        return encoder.prompt(chat), served(chat, None)

    trained, asked = both("a", "\nb", "c")
    assert len(trained) == len(asked) + 1 and encoder.tokenizer.decode(trained) == encoder.tokenizer.decode(asked)
    trained, asked = both("a {{idx}} {{idx}}", "b", "{{idx}}")
    texts = encoder.tokenizer.decode(trained), encoder.tokenizer.decode(asked)
    assert texts[0].replace("a 0 {{idx}}", "a {{idx}} {{idx}}").replace("1<", "{{idx}}<") == texts[1] != texts[0]


@pytest.mark.parametrize("model", ["qwen3", "llama3.1"])
def test_ids_are_those_of_the_checkpoints_own_template(model):
    """Of dialogues without tools, whose texts have no blanks at their ends, which Llama's template takes away."""
    encoder, own = load(model, TEMPLATES_OF[model])
    compared = 0
    for prompt in probe.prompts(encoder):
        if all(message["content"] == message["content"].strip() for message in prompt.messages):
            assert prompt.ids == own_ids(encoder, own, prompt)
            compared += 1
    assert compared > 8


# ---- every example config --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_models(tmp_path_factory):
    """The model of a config, small, with its own tokenizer: {"llama3": folder, "mistral": folder}."""
    kinds = {
        "llama3": ("llama3.1", LlamaForCausalLM, LlamaConfig(vocab_size=128_256, **SHAPE)),
        "mistral": (checkpoints.MISTRAL, MistralForCausalLM, MistralConfig(vocab_size=32_768, **SHAPE)),
    }
    folders = {}
    for template, (model, kind, config) in kinds.items():
        folders[template] = tmp_path_factory.mktemp(template)
        AutoTokenizer.from_pretrained(checkpoints.folder_of(model)).save_pretrained(folders[template])
        torch.manual_seed(1)
        kind(config).save_pretrained(folders[template])
    return folders


def configs(*folders: str):
    found = [path for folder in folders for path in sorted((ROOT / "examples" / folder).glob("*.yaml"))]
    return pytest.mark.parametrize("path", found, ids=lambda path: f"{path.parent.name}-{path.stem}")


def items_of(path, small_models, *more: str) -> list[str]:
    given = command.read_config(path)
    data = "demo_sft" if given["stage"] == "sft" else "demo_pairs"
    items = [str(path), f"model_name_or_path={small_models[given['template']]}", f"dataset={data}"]
    items += ["adapter_name_or_path="] if "adapter_name_or_path" in given else []
    return [*items, "preprocessing_num_workers=1", *more]


@configs("train_full", "train_lora")
def test_every_training_config_with_its_own_tokenizer(path, small_models, monkeypatch):
    """Types, template, and a row of the model for every token of it."""
    monkeypatch.chdir(ROOT)
    arguments = parse(read_args(items_of(path, small_models)))
    assert arguments.stage == command.read_config(path)["stage"]
    model = model_of(arguments)
    assert model.layers == SHAPE["num_hidden_layers"]
    assert bool(model.added) == (arguments.tuning.finetuning_type == "lora") == (not model.trained)


@pytest.mark.parametrize("name", ["sft", "sdpo", "sft_mistral", "sdpo_mistral"])
def test_a_check_of_the_published_configs(name, small_models, monkeypatch, capsys):
    """With the demo's data in tokens of the model."""
    monkeypatch.chdir(ROOT)
    path = ROOT / "examples" / "train_full" / f"{name}.yaml"
    assert run_at_edge(lambda: command.run(items_of(path, small_models, "max_samples=20", "--check"))) == 0
    out = capsys.readouterr().out
    assert f"train   {20 if 'sft' in name else 10} " in out and "ZeRO-3" in out


@pytest.mark.parametrize("name", ["sdpo", "sdpo_mistral"])
def test_a_step_of_training_with_a_real_tokenizer(name, small_models, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(ROOT)
    path = ROOT / "examples" / "train_lora" / f"{name}.yaml"
    options = ["max_steps=1", "max_samples=8", "gradient_accumulation_steps=1", "bf16=false", "plot_loss=false"]
    items = items_of(path, small_models, *options, "save_strategy=no", f"output_dir={tmp_path}")
    assert run_at_edge(lambda: command.run(items)) == 0
    assert "step 1/1  loss 0.693" in capsys.readouterr().out


@pytest.mark.parametrize(
    "path",
    # SmolLM2's is served as it is in test_real_model.py.
    [path for path in sorted((ROOT / "examples" / "inference").glob("*.yaml")) if path.stem != "smollm2_vllm"],
    ids=lambda path: path.stem,
)
def test_every_serving_config_with_its_own_tokenizer(path, small_models):
    """Training's prompts are what the template that vLLM gets makes of them."""
    template = command.read_config(path)["template"]
    config = serving_config.load(path, [f"model_name_or_path={small_models[template]}"])
    loaded = prompting.load(config)
    expected = probe.prompts(loaded.encoder)
    assert probe.compare(expected, loaded.encoder, prompting.rendered_ids(loaded)) == len(expected) > 10
    assert loaded.stop_ids


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (
            LlamaConfig(
                vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32,
                num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False,
            ),
            8_030_261_248,
        ),
        (
            MistralConfig(
                vocab_size=32_768, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32,
                num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False,
            ),
            7_248_023_552,
        ),
    ],
    ids=["Llama-3.1-8B", "Mistral-7B-v0.3"],
)  # fmt: skip
def test_parameters_are_counted_without_weights(config, parameters, tmp_path):
    """As the models' cards have them."""
    from types import SimpleNamespace

    from llamafactory_sdpo.host.names import host_parser

    config.save_pretrained(tmp_path)
    model_args = host_parser._TRAIN_ARGS[0](model_name_or_path=str(tmp_path))
    tuning = SimpleNamespace(finetuning_type="lora", lora_target=["all"], lora_rank=16, additional_target=None)
    model = model_of(SimpleNamespace(model=model_args, tuning=tuning))
    assert model.parameters == parameters and model.trained == 0
    # By hand for a rank of 16: q and o 2 x 16 x 8192, k and v 2 x 16 x 5120, the three of the MLP 3 x 16 x 18432.
    assert model.added == 32 * 16 * (2 * 8192 + 2 * 5120 + 3 * 18_432)
