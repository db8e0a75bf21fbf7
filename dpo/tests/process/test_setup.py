"""What setup.sh does besides: PyTorch's CPU build where there is no GPU, and its lines while it works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import ROOT


NO_GPU_PACKAGES = ("nvidia-", "cuda-", "triton")
STUB = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


@pytest.fixture
def shell(tmp_path: Path):
    """Run lines of bash after setup.sh, which finds this environment and does nothing; a stub stands for nvidia-smi."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\nexit 1\n")
    smi.chmod(0o755)
    active = Path(sys.executable).parent
    path = os.pathsep.join([str(smi.parent), str(active), os.environ["PATH"]])

    def run(code: str, **env: str) -> str:
        # The folder is no checkout's, so what is noted there is this test's.
        lines = f'set -e; . "{ROOT}/setup.sh"; sdpo_venv="{tmp_path}"; {code}'
        inherited = {name: value for name, value in os.environ.items() if name != "SDPO_TORCH"}
        env = {**inherited, "VIRTUAL_ENV": str(active.parent), "PATH": path, **env}
        done = subprocess.run(["bash", "-c", lines], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


def test_which_build_is_wanted(shell, tmp_path: Path) -> None:
    """A machine without a GPU gets CUDA's only if asked, or if it is there for machines that have one."""
    if sys.platform != "linux":
        pytest.skip("elsewhere PyPI's build is the CPU's")
    assert shell("sdpo_torch").strip() == "cpu"
    assert shell("sdpo_torch", SDPO_TORCH="cuda").strip() == "cuda"
    (tmp_path / ".sdpo-torch").write_text("cuda\n")
    assert shell("sdpo_torch").strip() == "cuda"
    (tmp_path / ".sdpo-torch").write_text("cpu\n")
    assert shell("sdpo_torch").strip() == "cpu"
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: some'\n")
    assert shell("sdpo_torch").strip() == "cuda"


def test_the_pins_of_the_cpu_build_hold_together(shell, tmp_path: Path) -> None:
    """With wheels of that build in a folder (stubs here), the pinned list resolves to them, and to nothing of CUDA's."""
    pins = shell("sdpo_cpu_requirements").splitlines()
    names = [line for line in pins if "==" in line]
    assert len(names) > 150 and not [line for line in names if line.startswith(NO_GPU_PACKAGES)]
    stubs = [line for line in names if line.endswith("+cpu")]
    assert [line.partition("==")[0] for line in stubs] == ["torch", "torchaudio", "torchvision"]
    for line in stubs:
        name, _, version = line.partition("==")
        with ZipFile(tmp_path / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            for file, text in (("METADATA", STUB.format(name=name, version=version)), ("WHEEL", ""), ("RECORD", "")):
                wheel.writestr(f"{name}-{version}.dist-info/{file}", text)
    (tmp_path / "pins.txt").write_text("\n".join(stubs))
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    install = [uv, "pip", "install", "--dry-run", "--offline", "--no-index", "--python", sys.executable]
    done = subprocess.run(
        [*install, "--find-links", str(tmp_path), "-r", str(tmp_path / "pins.txt")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line.strip(" +") for line in done.stderr.splitlines() if line.startswith(" + ")] == stubs


def test_progress_is_plain_lines_without_the_list_of_packages(shell) -> None:
    lines = r"printf 'Downloading torch (500.0MiB)\n + torch==2.11.0\n ~ a==1\nInstalled 2 packages\n'"
    told = shell(f"installer() {{ {lines}; }}; sdpo_progress installer")
    assert told == "Downloading torch (500.0MiB)\nInstalled 2 packages\n"
    assert "failed" in shell("if sdpo_progress false; then echo worked; else echo failed; fi")


PYTHON = """#!/usr/bin/env bash
if [ "$1 $2" = "-m venv" ]; then echo "venv" >>"$LOG"; mkdir -p "${@: -1}/bin"; fi
"""
UV = """#!/usr/bin/env bash
echo "uv $*" >>"$LOG"
sleep 1
case "$*" in *" -e "*) for name in llamafactory-cli lmf sotopia; do echo llamafactory_sdpo sotopia_sdpo >"$VENV/$name"; done ;; esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout in a folder with a space in its name, whose python and uv write down what they are told."""
    root = tmp_path / "my project"
    for folder in ("sotopia", "LLaMA-Factory", ".venv/bin", "bin"):
        (root / folder).mkdir(parents=True)
    for name in (
        "sotopia/pyproject.toml",
        "LLaMA-Factory/pyproject.toml",
        "requirements.txt",
        "requirements-vllm.txt",
    ):
        (root / name).touch()
    shutil.copy(ROOT / "setup.sh", root)
    for path, text in ((root / "bin" / "uv", UV), (root / ".venv" / "bin" / "python", PYTHON)):
        path.write_text(text)
        path.chmod(0o755)
    return root


@pytest.mark.parametrize(
    "script", ["train.sh", "inference.sh", "test.sh", "dpo/demo.sh", "dpo/compare.sh", "setup.sh"]
)
def test_help_installs_nothing(project: Path, script: str) -> None:
    """Before there is an environment, the words at the script's head are what there is to show."""
    (project / "dpo").mkdir()
    shutil.copy(ROOT / script, project / script)
    before = sorted(project.rglob("*"))
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    done = subprocess.run(["bash", project / script, "--help"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr, sorted(project.rglob("*"))) == (0, "", before)
    first = (ROOT / script).read_text("utf-8").splitlines()[1].removeprefix("# ")
    assert done.stdout.startswith(f"{first}\n") and "set -euo" not in done.stdout
    assert ("bash setup.sh (about 6 GB" in done.stdout) == (script != "setup.sh")


def test_setup_takes_no_arguments(project: Path) -> None:
    done = subprocess.run(["bash", project / "setup.sh", "--cpu"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "setup: it takes no arguments, found: --cpu\n")


def run_twice_at_once(project: Path, script: str) -> list[str]:
    """Run a script twice at the same time; return what has been installed so far."""
    own = {"LOG": str(project / "log"), "VENV": str(project / ".venv" / "bin"), "SDPO_TORCH": "cuda"}
    foreign = ("VIRTUAL_ENV", "CONDA_PREFIX", "SDPO_VLLM_PYTHON")
    env = {name: value for name, value in os.environ.items() if name not in foreign} | own
    env["PATH"] = f"{project / 'bin'}:{env['PATH']}"
    argv = ["bash", "-c", script, str(project / "setup.sh")]
    both = [subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    return (project / "log").read_text().splitlines()


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock there is no lock")
def test_two_calls_at_once_install_once(project: Path) -> None:
    """Else the second would take the packages, or vLLM's whole environment, from under what the first has started."""
    installed = run_twice_at_once(project, '. "$0"')
    assert len([line for line in installed if " -e " in line]) == 1
    installed = run_twice_at_once(project, '. "$0" && sdpo_setup_vllm')
    assert installed.count("venv") == 1
    assert len([line for line in installed if "requirements-vllm.txt" in line]) == 1
