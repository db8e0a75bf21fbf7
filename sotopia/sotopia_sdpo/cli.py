"""The command `sotopia`: ours, and upstream's others.

    sotopia benchmark --models M --partner-model P --evaluator-model E --batch-size 10 --task hard
    sotopia runs | show | compare | evaluate | judges | template | simulate | db | install

Exit codes: 0 done, 1 a bug, 2 wrong input, 3 some episodes failed or are unscored, 130 interrupted. Commands load
what they need when they run, so that `--help` answers at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sotopia_sdpo import db_cli, options
from sotopia_sdpo.errors import run_at_edge
from sotopia_sdpo.llm import limits


DEFAULT_MODELS = ["gpt-4o"]
DEFAULT_PARTNER = "together_ai/meta-llama/Llama-3-70b-chat-hf"
DEFAULT_EVALUATOR = "gpt-4o"

app = typer.Typer(
    help="Sample and evaluate social agents on SOTOPIA.",
    cls=options.Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(db_cli.app, name="db")


@app.callback()
def main_options(version: options.Version = False) -> None:
    """Sample and evaluate social agents on SOTOPIA."""


@app.command(cls=options.Script)
def benchmark(
    models: options.Models = DEFAULT_MODELS,  # noqa: B006 (typer copies it)
    partner_model: options.Partner = DEFAULT_PARTNER,
    evaluator_model: options.Evaluator = DEFAULT_EVALUATOR,
    panel: options.PanelOption = options.PanelRule.mean,
    judge_repeats: options.JudgeRepeats = 1,
    batch_size: options.BatchSize = limits.EPISODES_IN_FLIGHT,
    task: options.TaskOption = "hard",
    trials: options.Trials = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    db: options.Database = None,
    data_dir: options.DataDir = None,
    splits: options.Splits = None,
    url: options.CombosUrl = "",
    combos_per_env: options.CombosPerEnv = None,
    tag: options.TagOption = "",
    calibrate: options.Calibrate = None,
    prompt_template: options.PromptTemplate = None,
    sft_data: options.SftData = None,
    temperature: options.Temperature = None,
    target_temperature: options.TargetTemperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    preset: options.Preset = None,
    demo: options.Demo = False,
    dry_run: options.DryRun = False,
    only_show_performance: options.OnlyShow = False,
    output_to_jsonl: options.ToJsonl = False,
    save_dir: options.SaveDir = Path("."),
    max_attempts: options.Attempts = limits.ATTEMPTS,
    timeout: options.Timeout = limits.TIMEOUT_S,
    requests_per_minute: options.RequestsPerMinute = None,
    push_to_db: options.PushToDb = True,
    print_logs: options.PrintLogs = False,
) -> None:
    """Sample episodes, have them judged, and show the results; a second call goes on where the first one stopped."""
    from sotopia_sdpo import benchmark as command

    chosen = command.Options(
        models=tuple(models),
        partner_model=partner_model,
        evaluator_model=evaluator_model,
        task=task,
        limits=limits.Limits(batch_size, max_attempts, timeout, requests_per_minute),
        trials=trials,
        limit=limit,
        seed=seed,
        db=db,
        data_dir=data_dir,
        splits=splits,
        url=url,
        combos_per_env=combos_per_env,
        tag=tag,
        panel=panel.value,
        judge_repeats=judge_repeats,
        calibrate=calibrate,
        prompt_template=prompt_template,
        sft_data=sft_data,
        temperature=temperature,
        target_temperature=target_temperature,
        top_p=top_p,
        top_k=top_k,
        preset=preset.value if preset else None,
        demo=demo,
        save_dir=save_dir,
        output_to_jsonl=output_to_jsonl,
        push_to_db=push_to_db,
    )
    run = command.show if only_show_performance else command.dry_run if dry_run else command.benchmark
    _at_edge(lambda: run(chosen))


@app.command(cls=options.Script)
def evaluate(
    tag: Annotated[
        list[str], typer.Option(show_default=False, help="The run whose sessions are judged; may be repeated.")
    ],
    evaluator_model: options.Evaluator = DEFAULT_EVALUATOR,
    panel: options.PanelOption = options.PanelRule.mean,
    judge_repeats: options.JudgeRepeats = 1,
    calibrate: options.Calibrate = None,
    output_tag: Annotated[
        str, typer.Option(show_default=False, help="Where the new scores go. (default: the tag with E in it)")
    ] = "",
    batch_size: options.BatchSize = limits.EPISODES_IN_FLIGHT,
    requests_per_minute: options.RequestsPerMinute = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
) -> None:
    """Judge stored sessions with another evaluator, or again where they have no scores yet."""
    from sotopia_sdpo import evaluate as command

    chosen = limits.Limits(batch_size, requests_per_minute=requests_per_minute)
    place = db, data_dir, output_tag, chosen
    _at_edge(lambda: command.evaluate(tag, evaluator_model, *place, panel.value, judge_repeats, calibrate))


@app.command(cls=options.Script)
def runs(db: options.Database = None, data_dir: options.DataDir = None) -> None:
    """List the runs of a database, with short names that every command takes for a tag."""
    from sotopia_sdpo.show.runs import runs as command

    _at_edge(lambda: command(db, data_dir))


@app.command(cls=options.Script)
def show(
    run: options.RunName,
    number: Annotated[
        int | None, typer.Argument(metavar="[N]", min=1, show_default=False, help="Which episode. (default: 1)")
    ] = None,
    worst: Annotated[bool, typer.Option("--worst", help="Count from the episode with the lowest goal.")] = False,
    best: Annotated[bool, typer.Option("--best", help="Count from the episode with the highest goal.")] = False,
    db: options.Database = None,
    data_dir: options.DataDir = None,
) -> None:
    """Show an episode: what each agent knows, the turns, and the scores with the judge's reasons."""
    from sotopia_sdpo.show.episode import show as command

    _at_edge(lambda: command(run, number, worst, best, db, data_dir))


@app.command(cls=options.Script)
def compare(
    first: options.RunName,
    second: Annotated[str, typer.Argument(metavar="RUN", show_default=False, help="Another run on the same combos.")],
    pass_at: options.PassAt = None,
    html: Annotated[
        Path | None,
        typer.Option(show_default=False, help="Write the episodes of both beside each other to this page."),
    ] = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
    splits: options.Splits = None,
) -> None:
    """Show the paired difference between two runs, how often the second one wins, and how surely both pass."""
    from sotopia_sdpo.results.compare import compare_runs
    from sotopia_sdpo.show.side_by_side import write_comparison

    def both() -> int:
        code = compare_runs(first, second, db, data_dir, splits, pass_at)
        return write_comparison(first, second, html, db, data_dir) if html else code

    _at_edge(both)


@app.command(cls=options.Script)
def judges(
    human: options.Human,
    scores: options.Scores = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", show_default=False, help="More files: CSV of people, others of judges."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(show_default=False, help="A run with a judge's scores; may be repeated.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(show_default=False, help="Draw agreement and bias (.png, .pdf or .svg).")
    ] = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
) -> None:
    """Hold judges against people: agreement, bias with its interval, repeatability, and what they lean to."""
    from sotopia_sdpo.results.judges import judges as command

    rated = [file for file in more or () if file.endswith(".csv")]
    judged = [file for file in more or () if file not in rated]
    _at_edge(lambda: command([*human, *rated], [*(scores or ()), *judged], tag or (), db, data_dir, figure))


@app.command(cls=options.Script)
def template(
    source: Annotated[
        Path,
        typer.Option("--from", show_default=False, help="A file of dialogues in ShareGPT form, as sft_data.json."),
    ],
    output: Annotated[
        Path | None, typer.Option(show_default=False, help="The file to write. (default: print)")
    ] = None,
) -> None:
    """Derive the wording of the agents' first turn from a file, for --prompt-template."""
    from sotopia_sdpo.play.wording import write_template

    _at_edge(lambda: write_template(source, output))


@app.command(cls=options.Script)
def simulate(
    port: options.Port = 8100,
    seed: options.ServerSeed = 0,
    host: options.HostOption = "127.0.0.1",
    latency_ms: Annotated[float, typer.Option(min=0.0, help="Mean latency of an answer.")] = 0.0,
    exponential: Annotated[
        bool, typer.Option("--exponential", help="Draw latencies from an exponential distribution with that mean.")
    ] = False,
    rate_429: options.Rate = 0.0,
    retry_after: Annotated[float, typer.Option(min=0.0, help="Retry-After of a 429, in seconds; 0: none.")] = 0.0,
    rate_500: options.Rate = 0.0,
    rate_timeout: options.Rate = 0.0,
    hang: Annotated[float, typer.Option(min=0.0, help="Seconds to hold a request that is to time out.")] = 600.0,
    rate_drop: options.Rate = 0.0,
    rate_broken_json: options.Rate = 0.0,
    rate_out_of_range: options.Rate = 0.0,
    rate_annotation: options.AnnotationRate = 0.0,
    api_key: Annotated[str, typer.Option(help="Accept only this key.")] = "",
    only_model: Annotated[
        list[str] | None, typer.Option(show_default=False, help="Serve only this model; may be repeated.")
    ] = None,
    refuse_response_format: Annotated[
        bool, typer.Option("--refuse-response-format", help="Refuse response_format, as old servers do.")
    ] = False,
) -> None:
    """Serve SIMULATED models (scripted, no model behind them) for tests and trials, on loopback."""
    import asyncio

    from sotopia_sdpo.simulated.faults import Faults
    from sotopia_sdpo.simulated.server import SimulatedServer, serve

    faults = Faults(
        rate_429=rate_429,
        rate_500=rate_500,
        rate_timeout=rate_timeout,
        rate_drop=rate_drop,
        rate_broken_json=rate_broken_json,
        rate_out_of_range=rate_out_of_range,
        rate_annotation=rate_annotation,
        retry_after_s=retry_after,
        hang_s=hang,
        latency_ms=latency_ms,
        exponential=exponential,
    )
    server = SimulatedServer(seed, faults, api_key, tuple(only_model or ()), refuse_response_format)
    _at_edge(lambda: asyncio.run(serve(server, host, port)))


@app.command(
    cls=options.Script,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def install(context: typer.Context) -> None:
    """Set up a Redis with published data (upstream's own command, unchanged)."""
    from sotopia_sdpo.play.stage import upstream_cli

    upstream_cli(["install", *context.args])


def _at_edge(command: Callable[[], int | None]) -> None:
    """Run a command and end with its exit code."""
    raise typer.Exit(run_at_edge(command))


def main() -> None:
    """Run the command line."""
    app(prog_name="sotopia")


if __name__ == "__main__":
    main()
