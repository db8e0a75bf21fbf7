"""Two nodes, each with a launcher of its own, as on two machines; and Ray, where it is installed.

A node is the command that users start on a machine, with the number of its rank. Both are on this machine here, and
meet on its loopback interface; or each has a network of its own, where the kernel lets us make one, and they meet on a
wire between the two.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import killing
import psutil
import pytest
import small
import torch
import yaml
from conftest import ROOT

from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import host_tuner


CLI = [sys.executable, "-m", "llamafactory_sdpo.cli", "train"]
ZERO3 = ROOT / "examples" / "deepspeed" / "ds_z3_config.json"
TIMEOUT_S = 1200
STEPS = 4


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nodes")
    small.write_data(folder / "data")
    small.write_model(folder / "model")
    (folder / "sdpo.yaml").write_text(yaml.safe_dump(small.config(folder, max_steps=STEPS)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def alone(home) -> Path:
    """The same training in one process."""
    install()
    host_tuner.run_exp(small.config(home, output_dir=str(home / "alone"), max_steps=STEPS))
    return home / "alone"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Networks:
    """Two network namespaces that a pair of virtual interfaces connects; neither sees the other's loopback."""

    def __init__(self) -> None:
        names = [f"sdpo-{os.getpid()}-{number}" for number in range(2)]
        self.address, self.interface = "192.0.2.1", "wire"
        self.inside = [["ip", "netns", "exec", name] for name in names]
        self._names: list[str] = []
        for name in names:
            self._ip("netns", "add", name)
            self._names.append(name)
        ends = [["name", self.interface, "netns", name] for name in names]
        self._ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for number, name in enumerate(names, 1):
            self._ip("-n", name, "address", "add", f"192.0.2.{number}/24", "dev", self.interface)
            for device in ("lo", self.interface):
                self._ip("-n", name, "link", "set", device, "up")

    def _ip(self, *words: str) -> None:
        try:
            subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as err:
            self.end()
            pytest.skip(f"no network of a node's own can be made: {getattr(err, 'stderr', None) or err}")

    def end(self) -> None:
        """Remove them, and the wire with them."""
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


class Nodes:
    """Two nodes of one rank each, which train one config."""

    def __init__(self, home: Path, *options: str, networks: Networks | None = None) -> None:
        self.home = home
        common = {"FORCE_TORCHRUN": "1", "NNODES": "2", "NPROC_PER_NODE": "1", "MASTER_ADDR": "127.0.0.1"}
        common["MASTER_PORT"] = str(free_port())
        inside: list[list[str]] = [[], []]
        if networks:
            inside = networks.inside
            # The machine's name is not an address of these networks, so Gloo has to be told which one to use.
            common |= {"MASTER_ADDR": networks.address, "GLOO_SOCKET_IFNAME": networks.interface}
        command = [*CLI, "sdpo.yaml", "per_device_train_batch_size=1", f"deepspeed={ZERO3}", *options]
        self.processes = []
        for rank in range(2):
            with (home / f"node-{rank}.log").open("w") as log:
                self.processes.append(
                    subprocess.Popen(
                        inside[rank] + command,
                        cwd=home,
                        env=os.environ | common | {"NODE_RANK": str(rank)},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                )

    def __enter__(self) -> "Nodes":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def command_lines(self) -> list[str]:
        """Return those of all their processes."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.getsid(int(folder.name)) in {process.pid for process in self.processes}:
                    found.append((folder / "cmdline").read_text("utf-8", "replace").replace("\0", " "))
        return found

    def wait(self) -> list[int]:
        """Return the exit codes of both."""
        return [process.wait(TIMEOUT_S) for process in self.processes]

    def said(self) -> str:
        return "".join((self.home / f"node-{rank}.log").read_text()[-4000:] for rank in range(2))


def close(one: Path, other: Path) -> bool:
    """Return whether two models are equal but for the order in which their gradients were summed."""
    first, second = killing.weights(one), killing.weights(other)
    return all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


@pytest.mark.skipif(
    " " in sys.executable, reason="PyTorch cannot compile DeepSpeed's operator below a path with a space"
)
def test_two_nodes_are_one_process(home, alone):
    """Sharded by ZeRO-3: the same losses and weights. A secret that both were given is on no command line."""
    with Nodes(home, "output_dir=nodes", "hf_hub_token=s3cret") as nodes:
        seen: list[str] = []
        end = time.monotonic() + TIMEOUT_S
        while nodes.processes[0].poll() is None and time.monotonic() < end:
            if any("llamafactory_sdpo.worker" in line for line in nodes.command_lines()):
                seen += nodes.command_lines()
            time.sleep(0.5)
        assert nodes.wait() == [0, 0], nodes.said()
    assert small.losses(home / "nodes") == pytest.approx(small.losses(alone), rel=1e-4)
    assert close(home / "nodes", alone)
    assert any("sdpo.yaml" in line for line in seen) and not any("s3cret" in line for line in seen)


@pytest.mark.skipif(
    " " in sys.executable, reason="PyTorch cannot compile DeepSpeed's operator below a path with a space"
)
def test_two_nodes_with_networks_of_their_own(home, alone):
    """As on two machines: nothing goes over a loopback interface that both share."""
    networks = Networks()
    try:
        with Nodes(home, "output_dir=networks", networks=networks) as nodes:
            assert nodes.wait() == [0, 0], nodes.said()
    finally:
        networks.end()
    assert small.losses(home / "networks") == pytest.approx(small.losses(alone), rel=1e-4)
    assert close(home / "networks", alone)


def node_address() -> str:
    """Return the address by which Ray knows this machine: never that of its loopback interface, if it has another."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


class Cluster:
    """A Ray cluster of 20 CPUs on this machine; the host asks for ten a worker."""

    def __init__(self) -> None:
        """Start it; its sockets need a short path."""
        self._folder = tempfile.mkdtemp(prefix="ray-")
        self._port = free_port()
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
        command += ["--num-cpus", "20", "--port", str(self._port)]
        command += ["--include-dashboard", "false", "--temp-dir", self._folder]
        # Ray is nice to others by itself, which takes minutes on a busy machine.
        env = os.environ | {"RAY_worker_niceness": "0"}
        self._head = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def train(self, home: Path, *options: str) -> "subprocess.Popen[str]":
        """Start a training of two workers; it waits for the cluster by itself."""
        address = node_address()
        common = ("ray_num_workers=2", "per_device_train_batch_size=1", f"master_addr={address}")
        env = os.environ | {"USE_RAY": "1", "RAY_ADDRESS": f"{address}:{self._port}"}
        return subprocess.Popen(
            [*CLI, "sdpo.yaml", *common, *options],
            cwd=home,
            env=env,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def workers(self) -> list[psutil.Process]:
        """Return the processes of the workers that train."""
        everyone = psutil.Process(self._head.pid).children(recursive=True)
        return [process for process in everyone if process.cmdline()[:1] == ["ray::RayWorker._training_function"]]

    def end(self) -> None:
        """End it with all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self._head.pid, signal.SIGKILL)
        self._head.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed; pip install ray")
    cluster = Cluster()
    yield cluster
    cluster.end()


def ended(training: "subprocess.Popen[str]") -> str:
    """Wait for a training and return what it said on stderr."""
    _, said = training.communicate(timeout=TIMEOUT_S)
    return said


def test_a_machine_that_is_not_in_the_cluster_is_one_line(home, cluster):
    training = cluster.train(home, "output_dir=elsewhere", "master_addr=192.0.2.250")
    said = ended(training)
    assert training.returncode == 2 and "Traceback" not in said
    assert "Ray: The `master_addr` (192.0.2.250) is not in Ray cluster" in said


@pytest.mark.parametrize("stage", ["sdpo", "eto", "dmpo"])
def test_two_workers_of_ray_are_one_process(home, cluster, stage):
    install()
    host_tuner.run_exp(small.config(home, output_dir=str(home / f"alone-{stage}"), stage=stage))
    training = cluster.train(home, f"output_dir={home / stage}", f"stage={stage}", "max_steps=3")
    said = ended(training)
    assert training.returncode == 0, said[-4000:]
    assert small.losses(home / stage) == pytest.approx(small.losses(home / f"alone-{stage}"), rel=1e-4)
    assert close(home / stage, home / f"alone-{stage}")


def test_a_worker_of_ray_that_is_killed(home, cluster):
    """It ends the training in one line; the same command goes on, to what one process comes to."""
    steps = [
        "max_steps=300",
        "save_strategy=steps",
        "save_steps=20",
        "overwrite_output_dir=false",
        "learning_rate=1e-5",
    ]
    options = small.config(home, output_dir=str(home / "long"), max_steps=300, learning_rate=1e-5)
    install()
    host_tuner.run_exp(options)
    training = cluster.train(home, f"output_dir={home / 'killed'}", *steps)
    end = time.monotonic() + TIMEOUT_S
    while not list((home / "killed").glob("checkpoint-*")) and training.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    cluster.workers()[-1].kill()
    said = ended(training)
    assert training.returncode == 1 and "error: a worker of Ray has died" in said, said[-4000:]
    assert "Traceback" not in said.partition("error: a worker")[2]
    training = cluster.train(home, f"output_dir={home / 'killed'}", *steps)
    said = ended(training)
    assert training.returncode == 0, said[-4000:]
    assert small.losses(home / "killed") == pytest.approx(small.losses(home / "long"), rel=1e-3)


def test_what_a_worker_of_ray_refuses_is_one_line(home, cluster):
    training = cluster.train(home, "output_dir=refused", "lr_scheduler_type=wavy")
    said = ended(training)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert training.returncode == 2 and "wavy" in line
