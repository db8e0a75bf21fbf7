"""The pages as a site, and the notebook of the first hour, in an environment with requirements-docs.txt alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from running import environment


TIMEOUT_S = 1200


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that uv makes of its cache, or fetches."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if not uv:
        pytest.skip("uv is not there; setup.sh installs it")
    folder = tmp_path_factory.mktemp("docs") / "env"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
    done = subprocess.run([*install, "-r", str(ROOT / "requirements-docs.txt")], capture_output=True, text=True)
    if "Failed to fetch" in done.stderr:
        pytest.skip(f"a package of requirements-docs.txt is out of reach: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_the_site_builds_without_a_warning(tools: Path, tmp_path: Path) -> None:
    build = [str(tools / "mkdocs"), "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, env=environment(NO_MKDOCS_2_WARNING="1"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    api = (tmp_path / "site" / "api" / "index.html").read_text("utf-8")
    # The signature and the first line of a docstring.
    assert "open_store" in api and "Return the weight of every agent turn of one dialogue." in api


def test_the_notebook_of_the_first_hour(tools: Path, tmp_path: Path) -> None:
    notebook = tmp_path / "first hour.ipynb"
    shutil.copy(ROOT / "docs" / "first-hour.ipynb", notebook)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run = [str(tools / "jupyter-execute"), "--inplace", f"--timeout={TIMEOUT_S}", str(notebook)]
    done = subprocess.run(
        run, cwd=tmp_path, env=environment(PATH=path, HOME=str(tmp_path)), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = notebook.read_text("utf-8")
    assert "mean nothing about real social skill" in told and "loss, step by step: [0.6931" in told
    assert (tmp_path / "first-hour" / "model" / "model.safetensors").is_file()
