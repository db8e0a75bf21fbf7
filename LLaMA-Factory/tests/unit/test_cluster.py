"""docs/cluster.md and its files: they load, and start what the launcher understands."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from llamafactory_sdpo.config_file import read_config
from llamafactory_sdpo.host.arguments import check_keys
from llamafactory_sdpo.launcher import torchrun_command


DOCS = ROOT.parent / "docs"
PAGE = (DOCS / "cluster.md").read_text(encoding="utf-8")
STUBS = {
    "scontrol": 'test "$*" = "show hostnames gpu[3-4]" && echo gpu3; sleep 0.2; echo gpu4',
    "srun": 'while [ "${1#-}" != "$1" ]; do shift; done\nfor SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
}


@pytest.fixture
def slurm(tmp_path) -> dict[str, str]:
    """A project whose scripts say what they are given, and Slurm as far as the job sees it: two nodes, one by one."""
    for name, text in STUBS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
    says = 'echo "$NNODES $NODE_RANK $MASTER_ADDR:$MASTER_PORT $FORCE_TORCHRUN"; printf "%s\\n" "$@"'
    (tmp_path / "setup.sh").write_text("echo set up\n", encoding="utf-8")
    (tmp_path / "train.sh").write_text(says, encoding="utf-8")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    sotopia = tmp_path / ".venv" / "bin" / "sotopia"
    sotopia.write_text('#!/usr/bin/env bash\nprintf "%s " "$@"; echo', encoding="utf-8")
    sotopia.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return os.environ | {
        "PATH": path, "SLURM_JOB_NODELIST": "gpu[3-4]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "34567"
    }  # fmt: skip


def submit(slurm: dict[str, str], folder: Path, script: str, *argv: str) -> list[str]:
    job = ["bash", str(DOCS / "cluster" / script), *argv]
    return subprocess.run(job, cwd=folder, env=slurm, check=True, capture_output=True, text=True).stdout.splitlines()


def test_slurm_starts_a_launcher_a_node(slurm, tmp_path):
    said = submit(slurm, tmp_path, "train.sbatch", "my config.yaml", "seed=1")
    node = ["gpu3:24567 1", "my config.yaml", "seed=1"]
    assert said == ["set up", f"2 0 {node[0]}", *node[1:], f"2 1 {node[0]}", *node[1:]]


def test_slurm_starts_the_sampling_on_every_node(slurm, tmp_path):
    said = submit(slurm, tmp_path, "sample.sbatch", "--task", "neg")
    assert said == ["set up", *["benchmark --task neg "] * 2]


def test_the_kubernetes_job_is_one_training():
    """The number of pods, the name of the first and the port are what the launcher is told; the config is one of ours."""
    service, job = yaml.safe_load_all((DOCS / "cluster" / "train-job.yaml").read_text(encoding="utf-8"))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {item["name"]: item.get("value") for item in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(env["NNODES"])
    assert (
        service["spec"]["selector"] == {"job-name": job["metadata"]["name"]} and service["spec"]["clusterIP"] == "None"
    )
    assert pod["subdomain"] == service["metadata"]["name"]
    assert env["MASTER_ADDR"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    ranks = torchrun_command([], {name: value or "0" for name, value in env.items()} | {"NPROC_PER_NODE": "8"})
    assert ranks[ranks.index("--nnodes") + 1] == "2" and env["MASTER_ADDR"] in ranks
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    shell, script, config, *overrides = container["command"]
    assert (shell, script) == ("bash", "train.sh")
    check_keys(read_config(ROOT.parent / config, overrides))


def test_what_the_page_names_is_there():
    for name in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (DOCS / name).exists(), name
    for name in re.findall(r"(?:LLaMA-Factory|docs)/[\w./-]+\.\w+", PAGE):
        assert (ROOT.parent / name).is_file(), name
    launcher = (ROOT / "src" / "llamafactory_sdpo" / "launcher.py").read_text(encoding="utf-8")
    for name in ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC_PER_NODE", "FORCE_TORCHRUN", "RDZV_ID",
                 "MAX_RESTARTS", "MIN_NNODES", "MAX_NNODES"):  # fmt: skip
        assert name in PAGE and name in launcher
    resuming = PAGE.split("```yaml\n")[1].split("```")[0]
    check_keys(yaml.safe_load(resuming))
