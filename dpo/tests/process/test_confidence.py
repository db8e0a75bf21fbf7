"""`locate.py --by confidence` against a server whose log-probabilities can be reckoned with, and one without any."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from running import Command, serving

from sotopia_sdpo.llm.backends import Unreachable
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.pairs.steps import locate


def log_prob(word: str) -> float:
    return -len(word) / 10


class Words(BaseHTTPRequestHandler):
    """A model whose tokens are words, with a mark at the beginning of every turn, as vLLM would serve it."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tokens = ["<s>"]
        for turn in body["messages"]:
            tokens += ["<turn>", *turn["content"].split()]
        if body.get("add_generation_prompt", True):
            tokens.append("<turn>")
        answer: dict[str, Any] = {"choices": [{"message": {"content": "x"}}]}
        answer["usage"] = {"prompt_tokens": len(tokens), "completion_tokens": 1}
        if "prompt_logprobs" in body:
            assert body["prompt_logprobs"] == 0 and body["messages"][-1]["role"] == "assistant"
            known = [{"7": {"logprob": log_prob(token), "rank": 1, "decoded_token": token}} for token in tokens]
            answer["prompt_logprobs"] = [None, *known[1:]]
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def words() -> Iterator[str]:
    """The server's model."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Words) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"custom/words@http://127.0.0.1:{server.server_port}/v1/"
        server.shutdown()


def test_the_turn_of_the_lowest_mean(inside: Command, tiny: Path, words: str) -> None:
    assert inside("data_filtering_negative").code == 0
    found = inside("locate", "--by", "confidence", "--model", words)
    assert found.code == 0, found.err
    located = json.loads((tiny / "negative_data_error.json").read_text())
    assert len(located) == len(json.loads((tiny / "negative_data.json").read_text())) > 4
    for record in located:
        said = [(index, turn["value"]) for index, turn in enumerate(record["conversations"]) if turn["from"] == "gpt"]
        # The mark before a turn belongs to its prompt.
        means = [sum(map(log_prob, text.split())) / len(text.split()) for _, text in said]
        assert record["log_probs"] == pytest.approx(means, abs=1e-4)
        assert record["location"] == said[means.index(min(means))][0]
        assert record["reason"] == f"mean log-probability {min(means):.2f} a token, the lowest of {len(said)} turns"


def test_a_server_that_goes_away_is_not_asked_for_all_the_others(
    inside: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five failures in a row, each after all its attempts, are enough."""
    assert inside("data_filtering_negative").code == 0
    asked = []

    async def gone(*_: object, **__: object) -> None:
        asked.append(1)
        raise Unreachable("no connection")

    monkeypatch.setattr(LLMClient, "complete", gone)
    monkeypatch.setattr(locate, "probe", lambda *_: None)
    found = inside("locate", "--by", "confidence", "--model", "custom/m@http://127.0.0.1:9/v1", "--concurrency", "1")
    count = len(json.loads((tiny / "negative_data.json").read_text()))
    assert found.code == 2 and len(asked) == 5 < count
    assert f"{count - 5} without log-probabilities: not asked: a server stopped answering" in found.err


@pytest.mark.parametrize("typed", [["--dry-run"], ["--budget", "1"], ["--verify", "2", "--agent", "m"]])
def test_what_is_for_an_annotator_is_refused(inside: Command, tiny: Path, words: str, typed: list[str]) -> None:
    """A dry run calls nothing."""
    assert inside("data_filtering_negative").code == 0
    found = inside("locate", "--by", "confidence", "--model", words, *typed)
    assert (found.code, found.err) == (2, f"error: {typed[0]} is for an annotator, --by asks none; leave it out\n")
    assert not (tiny / "negative_data_error.json").exists()


def test_a_server_without_log_probabilities_is_one_line(inside: Command, tiny: Path) -> None:
    assert inside("data_filtering_negative").code == 0
    with serving() as server:
        found = inside("locate", "--by", "confidence", "--model", server.model("m"))
    assert found.code == 2 and "gives no log-probabilities of prompts (prompt_logprobs); vLLM does" in found.err
    assert found.err.count("error: ") == 1 and not (tiny / "negative_data_error.json").exists()
