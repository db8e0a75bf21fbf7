"""Training on Ray, without Ray: what is reserved, and what is made of its errors."""

import os
import pickle
from types import SimpleNamespace

import pytest

from llamafactory_sdpo.errors import OptionError, TrainingFailed, UserError
from llamafactory_sdpo.host import ray_cluster
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import host_tuner


class RayError(Exception):
    """As Ray calls it."""


class RayActorError(RayError):
    """A worker that has died."""


class RayTaskError(RayError):
    """An error of a worker, as Ray wraps it."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("many lines\n" * 20)
        self.cause = cause


@pytest.fixture
def cluster(monkeypatch):
    """A machine of 20 CPUs, as far as the host asks the cluster."""
    nodes = [{"Alive": True, "Resources": {"CPU": 20.0}}, {"Alive": False, "Resources": {"CPU": 90.0}}]
    ray = SimpleNamespace(
        nodes=lambda: nodes, exceptions=SimpleNamespace(RayActorError=RayActorError, RayError=RayError)
    )
    monkeypatch.setattr(host_tuner, "ray", ray, raising=False)
    monkeypatch.setattr(host_tuner, "get_device_name", lambda: "cpu")
    monkeypatch.setattr(ray_cluster.importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv(ray_cluster.FOLDER, raising=False)


def run(workers, host):
    try:
        ray_cluster.run_on_ray(host, SimpleNamespace(ray_num_workers=workers), {})
    finally:
        os.environ.pop(ray_cluster.FOLDER, None)


def test_the_workers_alone_are_reserved_for(cluster, monkeypatch):
    """The host would ask for ten CPUs for each CPU there is, and wait for ever."""
    asked = []
    monkeypatch.setattr(host_tuner, "get_placement_group", lambda num_workers: asked.append(num_workers))
    run(2, lambda *_: host_tuner.get_placement_group(20))
    assert asked == [2]
    with pytest.raises(
        OptionError, match="ray_num_workers is 3, and the host asks for 10 .* of 20 CPUs, have them for 2"
    ):
        run(3, lambda *_: host_tuner.get_placement_group(20))
    assert asked == [2]


@pytest.mark.parametrize(
    ("device", "machines", "places"),
    [
        ("cpu", [{"CPU": 8.0}] * 4, 0),
        ("gpu", [{"CPU": 32.0, "GPU": 1.0}, {"CPU": 15.0, "GPU": 4.0}, {"CPU": 64.0}], 2),
    ],
)
def test_a_worker_is_on_one_machine(cluster, monkeypatch, device, machines, places):
    """Four machines of eight CPUs have 32, and room for no worker: Ray would wait for ever."""
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    monkeypatch.setattr(host_tuner.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(host_tuner, "get_device_name", lambda: device)
    monkeypatch.setattr(host_tuner, "get_placement_group", lambda num_workers: num_workers)
    with pytest.raises(OptionError, match=f"CPUs, have them for {places}; ask for fewer"):
        run(places + 1, lambda *_: host_tuner.get_placement_group(9))
    if places:
        run(places, lambda *_: host_tuner.get_placement_group(9))


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (RayTaskError(OptionError("template", "template: wrong")), OptionError, "^template: wrong$"),
        (RayTaskError(TrainingFailed("step 3: the loss is nan")), TrainingFailed, "^step 3: the loss is nan$"),
        (RayTaskError(KeyError("a bug")), RayTaskError, "many lines"),
        (
            RayActorError("The actor died\nunexpectedly"),
            TrainingFailed,
            "has died .The actor died unexpectedly.; the same",
        ),
        (ConnectionError("ray://: no answer"), UserError, "^Ray: ray://: no answer$"),
        (OptionError("ray_num_workers", "too many"), OptionError, "^too many$"),
        (RuntimeError("a bug"), RuntimeError, "a bug"),
        (
            ValueError("The `master_addr` (x) is not in Ray cluster"),
            UserError,
            r"^Ray: The `master_addr` \(x\) is not",
        ),
    ],
)
def test_what_ends_a_worker_is_one_line(cluster, raised, kind, message):
    def host(*_):
        raise raised

    with pytest.raises(kind, match=message) as error:
        run(1, host)
    assert type(error.value) is kind


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(ray_cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="USE_RAY is set, but Ray is not installed; pip install 'ray"):
        run(1, lambda *_: None)


def test_a_worker_works_where_the_command_was_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ray_cluster.enter_folder()
    (tmp_path / "project").mkdir()
    monkeypatch.setenv(ray_cluster.FOLDER, str(tmp_path / "project"))
    ray_cluster.enter_folder()
    assert os.getcwd() == str(tmp_path / "project")
    monkeypatch.setenv(ray_cluster.FOLDER, str(tmp_path / "none"))
    with pytest.raises(UserError, match="none.*; every machine of the cluster needs it"):
        ray_cluster.enter_folder()


def test_the_hosts_launcher_is_stood_in_for():
    install()
    assert host_tuner._ray_training_function.func is ray_cluster.run_on_ray


def test_our_errors_come_back_from_other_processes():
    for error in (UserError("a"), TrainingFailed("b"), OptionError("key", "c")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), getattr(copy, "key", "")) == (
            type(error),
            str(error),
            getattr(error, "key", ""),
        )
