"""Both packages as wheels in an environment of their own, in folders with a space, away from the checkout.

They are built and installed as docs/install.md says, with the pinned versions, which uv has cached since setup.sh ran.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import ROOT
from running import CLEARED

from sotopia_sdpo.make.servers import Server, answers, free_ports


TIMEOUT_S = 600
PROJECTS = {"sotopia": "sotopia_sdpo", "LLaMA-Factory": "src/llamafactory_sdpo"}
NOT_BUILT = ("saves", "cache", "tests", "build", "__pycache__", "*.egg-info")
FEW_STEPS = ("max_steps=2", "max_samples=8", "val_size=0", "do_eval=false", "plot_loss=false")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if not found:
        pytest.skip("uv is not there; setup.sh installs it")
    return found


@pytest.fixture(scope="module")
def wheels(uv: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both wheels, built of copies."""
    folder = tmp_path_factory.mktemp("built here")
    for name in PROJECTS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*NOT_BUILT))
        build = [uv, "build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", "dist", name]
        done = subprocess.run(build, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return sorted((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def home(uv: str, wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment that has nothing but the wheels and what they declare, and a home."""
    folder = tmp_path_factory.mktemp("some one")
    python = str(folder / "env" / "bin" / "python")
    install = [uv, "pip", "install", "--quiet", "--python", python]
    pins = ["--constraint", str(ROOT / "requirements.txt")]
    wanted = list(map(str, wheels))
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "env")], check=True)
    # Nothing is fetched where the cache has it all.
    if subprocess.run([*install, *pins, "--offline", *wanted], capture_output=True).returncode:
        subprocess.run([*install, *pins, *wanted], check=True)
    subprocess.run([*install, "--offline", "--no-deps", "--reinstall", *wanted], check=True)
    for name in ("home", "work"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*CLEARED, "PYTHON", "XDG_"))}
    path = f"{home / 'env' / 'bin'}{os.pathsep}{os.defpath}"
    return {**kept, "HOME": str(home / "home"), "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.fixture
def run(home: Path, environment: dict[str, str]) -> Run:
    """Run a command of the environment from a folder of the user's; return its output."""

    def run_one(name: str, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [str(home / "env" / "bin" / name), *arguments]
        done = subprocess.run(
            command, cwd=home / "work", env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run_one


@pytest.fixture(autouse=True)
def nothing_among_the_packages(home: Path) -> Iterator[None]:
    """What a user makes lies elsewhere."""
    (packages,) = (home / "env" / "lib").glob("python*/site-packages")
    before = files(packages / "sotopia_sdpo") | files(packages / "llamafactory_sdpo")
    yield
    assert files(packages / "sotopia_sdpo") | files(packages / "llamafactory_sdpo") == before
    assert not list((home / "work").iterdir())


def files(folder: Path) -> dict[Path, int]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path: path.stat().st_mtime_ns for path in found}


def test_the_wheels_are_complete(wheels: list[Path]) -> None:
    """Every file of the packages, the examples, and of data/ what is ours."""
    packed = {name for wheel in wheels for name in ZipFile(wheel).namelist()}
    for project, package in PROJECTS.items():
        folder = ROOT / project / package
        for path in files(folder):
            assert f"{folder.name}/{path.relative_to(folder)}" in packed
    host = ROOT / "LLaMA-Factory"
    shipped = [*(host / "examples").rglob("*.*"), *(host / "data").glob("demo_*"), host / "data" / "dataset_info.json"]
    assert {f"llamafactory_sdpo/shipped/{path.relative_to(host)}" for path in shipped} == {
        name for name in packed if "/shipped/" in name
    }
    assert not any("test" in Path(name).parts[0] for name in packed)


def test_the_environment_agrees_with_what_is_declared(uv: str, home: Path) -> None:
    done = subprocess.run(
        [uv, "pip", "check", "--python", str(home / "env" / "bin" / "python")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_demo_is_trained(run: Run, home: Path) -> None:
    out = run("llamafactory-cli", "train", "examples/demo/sdpo.yaml", *FEW_STEPS).stdout
    model = home / "home" / ".local" / "share" / "sdpo" / "saves" / "demo" / "sdpo"
    assert f"model: {model}" in out and (model / "model.safetensors").is_file()
    assert "\nnext: " in out and "\n  llamafactory-cli train examples/demo/" in out


def test_episodes_become_pairs(run: Run, home: Path, environment: dict[str, str]) -> None:
    (port,) = free_ports()
    url = f"http://127.0.0.1:{port}"
    server = [str(home / "env" / "bin" / "sotopia"), "simulate", "--port", str(port)]
    agent, judge = f"custom/anna@{url}/v1/", f"custom/judge@{url}/v1/"
    who = ("--demo", "--models", agent, "--partner-model", agent, "--evaluator-model", judge)
    data = home / "home" / ".local" / "share" / "sdpo"
    with Server(server, log=home / "server.log", ready=answers(f"{url}/health"), env=environment):
        run("sotopia", "benchmark", *who, "--task", "neg", "--limit", "3")
        run("sdpo", "negatives", "--max-goal", "10")
        run("sdpo", "locate", "--model", judge)
        missing = run("sdpo", "auto-tail", "--model", judge, code=2).stderr
    assert (data / "sotopia.db").is_file() and (data / "negative_data_error.json").is_file()
    assert missing.startswith(f"error: {data}/preference_data.json is not there; sdpo positives writes it")


def test_the_loop_finds_what_it_needs(run: Run) -> None:
    told = run("sdpo", "demo", "--help").stdout
    assert "sdpo demo TRIALS=5" in told and "examples/demo/sft.yaml" in told and "bash" not in told
    assert "no setting is named TRAILS" in run("sdpo", "demo", "TRAILS=5", code=2).stderr
