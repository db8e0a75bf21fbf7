"""What `bash inference.sh [CONFIG.yaml] [key=value ...]` runs.

Reads a serving config, trains the demo's models if they are missing, starts the servers, compares their prompts with
training's, and prints their names for `sotopia benchmark`; then watches them until it is interrupted. Exit codes: 130
interrupted, 2 wrong input or a server that could not start, 1 a server that died later.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import hidden
from .arguments import MissingModel
from .config_file import read_config
from .demo.smollm2 import path_of
from .errors import UserError, place_of, run_at_edge
from .places import ROOT, SERVE, SHIPPED, TRAIN, shown
from .serving import config as serving_config
from .serving import memory, probe, processes, stats
from .serving.config import ServingConfig
from .serving.prompting import Prompting
from .train import DEMO_CONFIG, resolve


DEFAULT_CONFIG = SHIPPED / "examples" / "inference" / "llama3_vllm.yaml"
DEMO_SERVING = SHIPPED / "examples" / "inference" / "demo_vllm.yaml"
PROGRAM = SERVE.split()[-1]
STATE = ROOT / "cache" / "serving"
"""Logs and prompting files, one folder a port."""
DEFAULT_URL = "http://127.0.0.1:8000"
KEY_ITEM = "api_key="
ANY_ADDRESS = ("0.0.0.0", "::", "")
EXIT_BUG = 1


class Started(NamedTuple):
    """The servers to start."""

    commands: list[processes.Command]
    load: Callable[[], Prompting]
    """Returns how training prompts, for the probe."""
    engine: str


def main() -> int:
    """Serve, or print the counters of a server."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Serve a trained model, prompted as in training; any key of the config can be given as key=value.",
        epilog=f"Without a config: {shown(DEFAULT_CONFIG)}; {DEMO_SERVING.name} is the demo's.",
    )
    parser.add_argument("items", nargs="*", metavar="CONFIG.yaml | key=value", help="a config, then keys")
    parser.add_argument("--api-key", metavar="KEY", help="what clients must send (CUSTOM_API_KEY of sotopia)")
    parser.add_argument(
        "--stats",
        nargs="?",
        const=DEFAULT_URL,
        metavar="URL",
        help=f"show the counters of a running vLLM (default: {DEFAULT_URL})",
    )
    # Items may stand on both sides of an option, as they do when two secrets were handed on.
    options = parser.parse_intermixed_args(hidden.whole(sys.argv[1:], f"{__package__}.inference"))
    items, api_key = without_key(options.items)
    # The host logs every file it loads, which would bury our lines.
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    processes.interrupt_when_terminated()
    if options.stats:
        return run_at_edge(lambda: print(stats.read(options.stats)))
    try:
        return run_at_edge(lambda: serve(items, options.api_key or api_key))
    except processes.ServerDied as err:
        print(f"error: {err}", file=sys.stderr)
        return EXIT_BUG


def without_key(items: list[str]) -> tuple[list[str], str | None]:
    """Return the items but for the key of clients, and that."""
    keys = [item.removeprefix(KEY_ITEM) for item in items if item.startswith(KEY_ITEM)]
    return [item for item in items if not item.startswith(KEY_ITEM)], keys[-1] if keys else None


def serve(argv: list[str], api_key: str | None) -> None:
    """Serve until interrupted.

    Raises:
        UserError: if the input is wrong or a server cannot start.
        ServerDied: if one ends later.
    """
    paths = resolve(argv, Path.cwd(), default=lambda: DEFAULT_CONFIG)
    ROOT.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    with naming(paths.config, paths.overrides):
        config = serving_config.load(paths.config, paths.overrides)
        if api_key:
            config = config.model_copy(update={"api_key": api_key})
        ensure_demo(config)
        config = config.model_copy(update={"model_name_or_path": path_of(config.model_name_or_path)})
        check(config)
        started = vllm_servers(config) if config.infer_backend == "vllm" else host_servers(config)
    say(f"starting {len(started.commands)} x {started.engine}; its log: {started.commands[0].log}")
    began = time.monotonic()
    with processes.running(started.commands) as servers:
        with naming(paths.config, paths.overrides):
            loaded = started.load()
        prompts = probe.prompts(loaded.encoder)
        if loaded.no_tools:
            say(f"tools are not served: {loaded.no_tools}")
        else:
            prompts += probe.tool_prompts(loaded.encoder)
        processes.wait_until_ready(servers, progress)
        count = sum(
            probe.compare(prompts, loaded.encoder, probe.tokenize_at(server.url, name, config.api_key))
            for server in servers
            for name in config.names
        )
        took = f"ready after {time.monotonic() - began:.0f} s"
        say(f"{took}; {count} prompts are those of training (template {config.template})")
        announce(config)
        processes.watch(servers)


@contextmanager
def naming(config: Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Say in UserErrors where what is wrong was given, and give a hint if nothing has been trained yet."""
    try:
        yield
    except UserError as err:
        is_untrained = config == DEFAULT_CONFIG and isinstance(err, MissingModel)
        hint = f"; the demo: {SERVE} {DEMO_SERVING}" if is_untrained else ""
        raise UserError(f"{place_of(err, config, overrides)}: {err}{hint}") from None


def check(config: ServingConfig) -> None:
    """Check what would fail later, while it takes no time.

    Raises:
        UserError: for a model that is not there, a port in use, or weights that do not fit.
    """
    serving_config.check_models(config)
    for port in config.ports:
        processes.check_port(config.host, port)
    memory.check(config, on_gpu=_sees_gpu())


def _sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def vllm_servers(config: ServingConfig) -> Started:
    """Write the files that vLLM needs, and return the commands of its replicas."""
    from .serving import adapters, prompting, vllm

    installed = vllm.find(SHIPPED.parent / "setup.sh")
    loaded = prompting.load(config)
    # The server gets the same check, but here it needs no start.
    probe.compare(probe.prompts(loaded.encoder), loaded.encoder, prompting.rendered_ids(loaded))
    loaded = loaded._replace(no_tools=no_tools(loaded))
    folder = STATE / str(config.port)
    prompting.write(loaded, config, folder / "prompting")
    stacks = {
        name: (adapters.stack(stack, folder / "adapters" / name),)
        for name, stack in config.adapter_name_or_path.items()
    }
    config = config.model_copy(update={"adapter_name_or_path": stacks})
    flags = vllm.flags(vllm.options(config, loaded, folder / "prompting", installed.is_cpu))
    commands = [
        processes.Command(
            [installed.python, "-m", vllm.SERVER_MODULE, *flags, "--port", str(port)],
            vllm.environment(config, replica, installed.is_cpu),
            f"http://{reachable(config.host)}:{port}",
            STATE / str(port) / "server.log",
        )
        for replica, port in enumerate(config.ports)
    ]
    return Started(commands, lambda: loaded, f"vLLM {installed.version} ({'CPU' if installed.is_cpu else 'GPU'})")


def no_tools(loaded: Prompting) -> str:
    """Return why vLLM takes no tools with a template, '' if it has training's prompts with them."""
    from .serving import chat_template, prompting, vllm

    if reason := vllm.no_parser(loaded) or chat_template.no_jinja(loaded.parts):
        return reason
    try:
        probe.compare(probe.tool_prompts(loaded.encoder), loaded.encoder, prompting.rendered_ids(loaded))
    except UserError as err:
        return str(err)
    return ""


def host_servers(config: ServingConfig) -> Started:
    """Write the config for servers on the host's own engine, and return their commands."""
    from .serving import prompting

    secrets = {serving_config.KEY_VARIABLE: config.api_key, "HF_TOKEN": config.hf_hub_token}
    env = {**os.environ, **{name: value for name, value in secrets.items() if value}}
    commands = []
    for port in config.ports:
        path = STATE / str(port) / "config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config.model_dump_json(exclude={"api_key", "hf_hub_token"}), encoding="utf-8")
        argv = [sys.executable, "-m", "llamafactory_sdpo.serving.host_server", str(path), str(port)]
        url = f"http://{reachable(config.host)}:{port}"
        commands.append(processes.Command(argv, env, url, path.with_name("server.log")))
    # The tokenizer is loaded while the servers start.
    engine = "the host's Hugging Face engine, which answers one request at a time"
    return Started(commands, lambda: prompting.load(config), engine)


def ensure_demo(config: ServingConfig) -> None:
    """Train the demo's models that are to be served and missing.

    Raises:
        UserError: if that fails.
    """
    from .demo.build import DEMO_MODEL, ensure

    folders = [config.model_name_or_path, *(path for stack in config.adapter_name_or_path.values() for path in stack)]
    wanted = {(ROOT / folder).resolve() for folder in folders}
    if (ROOT / DEMO_MODEL).resolve() in wanted:
        ensure(ROOT, DEMO_MODEL)
    for demo in sorted(DEMO_CONFIG.parent.glob("*.yaml")):
        output = _output_of(demo)
        if output in wanted and not (output / "tokenizer.json").is_file():
            say(f"{output} is not there; training it: {TRAIN} {demo}")
            if code := train(demo):
                raise UserError(f"training with {demo} ended with exit code {code}")


def train(config: Path) -> int:
    """Train in a process of its own, whose output is progress to us; return its exit code."""
    return subprocess.run([sys.executable, "-m", "llamafactory_sdpo.train", str(config)], stdout=2).returncode


def _output_of(config: Path) -> Path:
    """Return the folder into which a training config writes its model."""
    return (ROOT / str(read_config(config)["output_dir"])).resolve()


def reachable(host: str) -> str:
    """Return an address at which a server that listens on `host` is reached from here."""
    plain = "127.0.0.1" if host in ANY_ADDRESS else host
    return f"[{plain}]" if ":" in plain else plain


def announce(config: ServingConfig) -> None:
    """Print the models' names for clients."""
    urls = ",".join(f"http://{reachable(config.host)}:{port}/v1/" for port in config.ports)
    for name in config.names:
        print(f"serving custom/{name}@{urls}", flush=True)
    key = "CUSTOM_API_KEY=... " if config.api_key else ""
    print(f"for instance: {key}sotopia benchmark --models custom/{config.names[0]}@{urls} ...", flush=True)
    print("Ctrl-C ends it", flush=True)


def say(text: str, end: str = "\n") -> None:
    """Print a line of progress on stderr."""
    print(f"{PROGRAM}: {text:<60}", end=end, file=sys.stderr, flush=True)


def progress(text: str) -> None:
    """Print a line of progress; in a terminal the next line takes its place."""
    say(text, end="\r" if sys.stderr.isatty() else "\n")


if __name__ == "__main__":
    sys.exit(main())
