"""An adapter for a server that runs: what it is asked, and what it answers; tests/servers has the real one."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llamafactory_sdpo import load_adapter
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.serving import stats


class Models(BaseHTTPRequestHandler):
    """A server that may load adapters, and refuses one of them."""

    served: dict[str, str]
    loads: bool
    keys: list[str]

    def do_GET(self):
        self.answer(200, {"data": [{"id": name, "root": path} for name, path in self.served.items()]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.loads:
            self.answer(404, {"detail": "Not Found"})
        elif asked["lora_name"] == "wide":
            self.answer(500, {"error": "LoRA rank 99 is greater than max_lora_rank 64."})
        else:
            self.served[asked["lora_name"]] = asked["lora_path"]
            self.answer(200, "Success")

    def answer(self, status, body):
        self.keys.append(self.headers.get("Authorization"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def server():
    kind = type("Mine", (Models,), {"served": {"agent": "/base"}, "loads": True, "keys": []})
    with HTTPServer(("127.0.0.1", 0), kind) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        kind.url = f"http://127.0.0.1:{found.server_port}"
        yield kind
        found.shutdown()


@pytest.fixture
def adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 16}), encoding="utf-8")
    return str(tmp_path)


def test_every_server_gets_it_once(server, adapter, monkeypatch, capsys):
    monkeypatch.setenv("CUSTOM_API_KEY", "k")
    assert load_adapter.load("round-2", [adapter], [f"{server.url}/v1/", server.url]) == 0
    assert server.served["round-2"] == adapter and set(server.keys) == {"Bearer k"}
    assert capsys.readouterr().out == f"{server.url} serves round-2\n"


@pytest.mark.parametrize(("name", "fault"), [("agent", "serves /base as agent; take another name"), ("wide", "99")])
def test_what_a_server_refuses(server, adapter, name, fault):
    with pytest.raises(UserError, match=fault) as error:
        load_adapter.load(name, [adapter], [server.url])
    assert "\n" not in str(error.value) and server.served == {"agent": "/base"}


def test_a_server_that_loads_none_is_said_to_be_one(server, adapter):
    server.loads = False
    with pytest.raises(UserError, match="start the server with vllm_load_adapters=true"):
        load_adapter.load("round-2", [adapter], [server.url])


@pytest.fixture
def stacks(tmp_path, monkeypatch):
    """Three adapters whose stacks are written below a folder of the test's."""
    monkeypatch.setattr(load_adapter, "STATE", tmp_path / "state")
    folders = [tmp_path / name for name in "abc"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 2}), encoding="utf-8")
        factors = {"q.lora_A.weight": torch.full((2, 4), number), "q.lora_B.weight": torch.ones(4, 2)}
        save_file({name: part.float() for name, part in factors.items()}, folder / "adapter_model.safetensors")
    return list(map(str, folders))


def test_another_stack_of_a_name_is_another_one(server, stacks):
    """The server would go on with the first one, and its files would no longer be those that it serves."""
    for _ in range(2):
        assert load_adapter.load("x", stacks[:2], [server.url]) == 0
    written = Path(server.served["x"]) / "adapter_model.safetensors"
    before = written.read_bytes()
    with pytest.raises(UserError, match="serves .* as x; take another name"):
        load_adapter.load("x", stacks[1:], [server.url])
    assert written.read_bytes() == before and set(server.served) == {"agent", "x"}


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://127.0.0.1:port/v1/", "custom/agent@http://127.0.0.1:1", ""])
def test_what_is_no_address(adapter, url):
    with pytest.raises(UserError, match="is no address of a server, expected http://HOST:PORT/v1/"):
        load_adapter.load("x", [adapter], [url])


@pytest.mark.parametrize(
    "answer", [b"-ERR unknown command\r\n", b"HTTP/1.1 200 OK\r\n\r\n<html>", b"HTTP/1.1 200 OK\r\n\r\n[1]"]
)
def test_what_is_no_server_of_models(adapter, answer):
    """Redis, a web page, and another program's JSON."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def reply() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(answer)

        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        for ask in (lambda: load_adapter.load("x", [adapter], [url]), lambda: stats.read(url)):
            thread = threading.Thread(target=reply)
            thread.start()
            with pytest.raises(UserError, match="is the server there|is no list of models|address of a vLLM") as error:
                ask()
            assert "\n" not in str(error.value)
            thread.join()


def test_what_is_no_adapter(server, stacks):
    config, weights = (Path(stacks[0]) / name for name in ("adapter_config.json", "adapter_model.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    with pytest.raises(UserError, match="a: adapter_model.safetensors cannot be read"):
        load_adapter.load("x", stacks[:2], [server.url])
    save_file({"q.lora_A.weight": torch.ones(2, 9), "q.lora_B.weight": torch.ones(4, 2)}, weights)
    with pytest.raises(UserError, match="b: q.lora_A.weight has another shape"):
        load_adapter.load("x", stacks[:2], [server.url])
    for text, fault in (
        ('{"r": 8', "cannot be read"),
        ('{"peft_type": "IA3"}', "expected a LoRA adapter"),
        ("[]", "LoRA"),
    ):
        config.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=f"a: .*{fault}"):
            load_adapter.load("x", [stacks[0]], [server.url])


def test_what_is_not_there(server, adapter, tmp_path):
    with pytest.raises(UserError, match="none: expected a LoRA adapter"):
        load_adapter.load("x", [str(tmp_path / "none")], [server.url])
    with pytest.raises(UserError, match="is the server there"):
        load_adapter.load("x", [adapter], ["http://127.0.0.1:9"])
