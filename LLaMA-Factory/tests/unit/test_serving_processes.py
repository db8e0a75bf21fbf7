"""Server processes of ours: waited for, watched, ended with their helpers; adapters that stand on one another; counters."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import oracle
import pytest
import torch

from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.serving import adapters, processes, stats


ANSWERING = """
import http.server, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("helper", helper.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
DYING = """
import sys, time
print("loading"); print("ValueError: the model is too odd"); print("RuntimeError: Engine core initialization failed. See root cause above.")
sys.exit(3)
"""


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(tmp_path, code, port):
    argv = [sys.executable, "-c", code, str(port)]
    return processes.Command(argv, dict(os.environ), f"http://127.0.0.1:{port}", tmp_path / str(port) / "server.log")


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def helper_of(server):
    return int(server.log.read_text().split()[1])


def test_a_server_is_waited_for_and_ended_with_its_helpers(tmp_path, port):
    with processes.running([command(tmp_path, ANSWERING, port)]) as (server,):
        processes.wait_until_ready([server], print)
        helper = helper_of(server)
        assert server.is_alive() and is_running(helper)
    assert not server.is_alive() and not is_running(helper)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_them_too(tmp_path, port, number):
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and what is started with nohup, this one
    processes.interrupt_when_terminated()
    with pytest.raises(KeyboardInterrupt), processes.running([command(tmp_path, ANSWERING, port)]) as (server,):
        processes.wait_until_ready([server], print)
        os.kill(os.getpid(), number)
        time.sleep(5)
    for each, handler in before.items():
        signal.signal(each, handler)
    assert not server.is_alive() and not is_running(helper_of(server))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_server_does_not_outlive_us(tmp_path, port):
    """We are killed outright, so nothing of ours can run."""
    code = (
        "import os, sys, pathlib; from llamafactory_sdpo.serving import processes as p\n"
        f"c = p.Command([sys.executable, '-c', {ANSWERING!r}, '{port}'], dict(os.environ), 'http://127.0.0.1:{port}', pathlib.Path({str(tmp_path)!r}) / 'log')\n"
        "with p.running([c]) as servers:\n"
        "    p.wait_until_ready(servers, print); print(servers[0].process.pid, flush=True); p.watch(servers)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as ours:
        pid = int(ours.stdout.readline())
        assert is_running(pid)
        ours.kill()
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = is_running(pid)
    os.kill(int((tmp_path / "log").read_text().split()[1]), signal.SIGKILL)
    assert not left


def test_a_server_that_ends_before_it_is_ready(tmp_path, port, capfd):
    with processes.running([command(tmp_path, DYING, port)]) as servers:
        with pytest.raises(
            UserError, match="ended before it was ready: ValueError: the model is too odd .*server.log"
        ):
            processes.wait_until_ready(servers, print)
    assert "loading" in capfd.readouterr().err


def test_a_server_that_ends_later(tmp_path, port, capfd):
    with processes.running([command(tmp_path, ANSWERING, port)]) as servers:
        processes.wait_until_ready(servers, print)
        servers[0].process.kill()
        with pytest.raises(processes.ServerDied, match=f"127.0.0.1:{port} ended: exit code -9"):
            processes.watch(servers)
    assert "helper" in capfd.readouterr().err


def test_a_port_in_use(port):
    processes.check_port("127.0.0.1", port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1: address already in use; .*port={port + 1}"):
            processes.check_port("127.0.0.1", port)


# ---- adapters -------------------------------------------------------------------------------------------------------


def adapted(model, folder, rank, alpha, targets, **options):
    """Put a random adapter on a model, save it, and return the model with it merged."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, init_lora_weights=False, **options)
    wrapped = get_peft_model(model, config)
    wrapped.save_pretrained(folder)
    return wrapped.merge_and_unload()


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}])
def test_a_stack_of_adapters_is_one_adapter(tmp_path, options):
    """The logits of base + first + second, merged one after the other, and of the base with the stacked adapter."""
    from peft import PeftModel

    torch.manual_seed(0)
    ids = torch.randint(0, 60, (1, 12))
    both = oracle.random_llama(64, 1)
    both = adapted(both, tmp_path / "a", 4, 8, ["q_proj", "down_proj"])
    both = adapted(both, tmp_path / "b", 2, 6, ["q_proj", "v_proj"], **options)
    base = oracle.random_llama(64, 1)
    folder = adapters.stack((str(tmp_path / "a"), str(tmp_path / "b")), tmp_path / "out")
    assert adapters.rank_of(folder) == 6
    plain = base(ids).logits
    stacked = PeftModel.from_pretrained(base, folder)(ids).logits
    assert torch.allclose(stacked, both(ids).logits, atol=1e-5) and not torch.allclose(stacked, plain, atol=1e-2)


def test_adapters_that_cannot_be_stacked(tmp_path):
    for name, config in (("a", {"r": 2, "lora_alpha": 2}), ("b", {"r": 2, "lora_alpha": 2, "use_dora": True})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert adapters.stack((str(tmp_path / "b"),), tmp_path / "out") == str(tmp_path / "b")
    with pytest.raises(UserError, match="b: use_dora cannot be stacked"):
        adapters.stack((str(tmp_path / "a"), str(tmp_path / "b")), tmp_path / "out")
    with pytest.raises(UserError, match="c: expected a LoRA adapter"):
        adapters.rank_of(str(tmp_path / "c"))


# ---- counters -------------------------------------------------------------------------------------------------------

METRICS = """# HELP vllm:prefix_cache_queries_total x
vllm:prefix_cache_queries_total{engine="0",model_name="a"} 100.0
vllm:prefix_cache_queries_total{engine="1",model_name="a"} 100.0
vllm:prefix_cache_queries_created{engine="0",model_name="a"} 7.0
vllm:prefix_cache_hits_total{engine="0",model_name="a"} 150.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="a"} 4.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="a"} 0.5
vllm:generation_tokens_total{engine="0",model_name="a"} 30.0
"""


def test_counters_are_summed_over_engines():
    found = stats.parse(METRICS)
    assert found == stats.Stats(200, 150, 4, 0.5, 30) and found.hit_rate == 0.75 and found.mean_first_token_s == 0.125
    assert str(found).startswith(
        "4 answers; prefix cache: 150 of 200 prompt tokens (75.0%); time to first token: 125 ms"
    )
    assert found.since(found).hit_rate == 0.0


def test_what_is_no_vllm(port):
    with pytest.raises(ValueError, match="no counters"):
        stats.parse("python_gc 1\n")
    with pytest.raises(UserError, match=f"127.0.0.1:{port}/metrics: .*expected the address of a vLLM"):
        stats.read(f"http://127.0.0.1:{port}/v1/")


def test_servers_of_this_machine_are_asked_without_a_proxy(port, tmp_path, monkeypatch):
    """With a proxy at which nobody answers, a server of ours is found all the same; others are asked through it."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with processes.running([command(tmp_path, ANSWERING, port)]) as servers:
        processes.wait_until_ready(servers, print)
        with pytest.raises(UserError, match="no counters of vLLM"):
            stats.read(f"http://localhost:{port}")
        with pytest.raises(UserError, match="refused"):
            stats.read(f"http://models.example:{port}")
