"""`sotopia benchmark`: plan, probe, run, and print the results.

Comes in: the options as typed. Goes out: episodes in the store, results on stdout, progress on stderr, an exit code.
Invariant: whatever is wrong with the input is found before the first episode starts, and nothing is written then.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sotopia_sdpo.account import exit_code_of
from sotopia_sdpo.errors import EXIT_DONE, UserError
from sotopia_sdpo.judge.panel import Evaluator, Rule, parse_evaluator
from sotopia_sdpo.judge.verdict import template_hash
from sotopia_sdpo.llm.limits import DEFAULTS, Limits
from sotopia_sdpo.llm.spec import ModelSpec, name_of, parse_model, short_name, without_address
from sotopia_sdpo.play.dialogue import Template, load_template
from sotopia_sdpo.play.replay import Origin, load_origins
from sotopia_sdpo.play.sources import SAY_OTHER_WORDS
from sotopia_sdpo.play.wording import disagreement
from sotopia_sdpo.results.calibration import calibration_table
from sotopia_sdpo.results.people import People
from sotopia_sdpo.results.scores import results_of, scores_of
from sotopia_sdpo.results.tables import panel_table, results_table, simulation_note, upstream_row, write_jsonl
from sotopia_sdpo.run.execute import probe, sample_all
from sotopia_sdpo.run.forecast import forecast_lines
from sotopia_sdpo.run.plan import Plan, Run, WorkItem, items_of_combos, items_of_origins, plan
from sotopia_sdpo.run.runner import Counts
from sotopia_sdpo.step_files import SFT_DATA
from sotopia_sdpo.store import data_home, database_url, open_store
from sotopia_sdpo.store.base import PROFILE_KINDS, Store
from sotopia_sdpo.store.run_names import find_run
from sotopia_sdpo.store.tag import tag_of
from sotopia_sdpo.store.urls import SQLITE_PREFIX, without_password
from sotopia_sdpo.world.cast import demo_splits, hard_subset, require_world
from sotopia_sdpo.world.combos import Splits, check_profiles, choose, fetch_combos, load_splits
from sotopia_sdpo.world.tasks import TEMPERATURE, task_of


class Truncation(NamedTuple):
    """Which of the most probable tokens are drawn from; None where the server decides."""

    top_p: float | None = None
    top_k: int | None = None


# The authors' requests carried a temperature alone, so the defaults of the host's server held.
PRESETS = {None: Truncation(), "published": Truncation(0.7, 50)}


@dataclass(frozen=True)
class Options:
    """What was typed; None where a task's own value holds."""

    models: tuple[str, ...]
    partner_model: str
    evaluator_model: str
    task: str
    limits: Limits = DEFAULTS
    trials: int | None = None
    limit: int | None = None
    seed: int = 0
    db: str | None = None
    data_dir: Path | None = None
    splits: Path | None = None
    url: str = ""
    combos_per_env: int | None = None
    tag: str = ""
    panel: Rule = "mean"
    judge_repeats: int = 1
    calibrate: Path | None = None
    prompt_template: Path | None = None
    sft_data: Path | None = None
    temperature: float | None = None
    target_temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    preset: str | None = None
    demo: bool = False
    save_dir: Path = Path(".")
    output_to_jsonl: bool = False
    push_to_db: bool = True


def benchmark(options: Options) -> int:
    """Run what is not done yet, then show the results."""
    runs = _runs(options)
    with _readable(options) as (store, is_temporary):
        work = _plan(options, runs, store)
        print(_plan_line(work, options), file=sys.stderr)
        if work.items:
            probe({model for item in work.items for model in item.models}, options.limits)
        if not options.push_to_db:
            with _copy(store, [tag for run in runs for tag in run.tags]) as copy:
                return _carry_out(options, runs, work, copy)
        if not is_temporary:
            return _carry_out(options, runs, work, store)
    # The demo's database is made only now that nothing can be refused any more.
    with open_store(database_url(options.db, options.data_dir)) as store:
        require_world(store, options.demo)
        return _carry_out(options, runs, work, store)


def _carry_out(options: Options, runs: Sequence[Run], work: Plan[WorkItem], store: Store) -> int:
    """Run the items and show the results; return the exit code."""
    counts = sample_all(store, work.items, options.limits, work.done) if work.items else Counts(0)
    if not counts.stopped_because:
        _show(options, [(run.model.name, run.tags) for run in runs], store)
    return exit_code_of(counts.missed(len(work.done)))


def dry_run(options: Options) -> int:
    """Print what would run and what it would take; nothing is called or written."""
    runs = _runs(options)
    with _readable(options) as (store, _):
        work = _plan(options, runs, store)
        print(_plan_line(work, options))
        for tag in dict.fromkeys(item.key.tag for item in work.items):
            print(f"  {sum(item.key.tag == tag for item in work.items)} x {tag}")
        if work.items:
            print("\n".join(forecast_lines(store, work.items)))
    return EXIT_DONE


def show(options: Options) -> int:
    """Show the results of what is stored; models need not be reachable for that."""
    task = task_of(options.task)
    trials = range(options.trials or task.trials)
    partner, evaluator = name_of(options.partner_model), _evaluator(options, is_called=False).name
    runs = []
    for model in map(name_of, options.models):
        tags = [options.tag or tag_of(model, partner, evaluator, task.name, trial) for trial in trials]
        runs.append((model, list(dict.fromkeys(tags))))
    with open_store(database_url(options.db, options.data_dir), create=False) as store:
        if options.tag:
            meant = find_run(options.tag, store.counts().episodes)
            runs = [(model, meant or tags) for model, tags in runs]
        found = _show(options, runs, store)
    if not found:
        raise UserError(f"no scored episodes of {runs[0][1][0]}; `sotopia db info` shows which tags are there")
    return EXIT_DONE


@contextmanager
def _readable(options: Options) -> Iterator[tuple[Store, bool]]:
    """Open the database as it is; for a demo that is not set up yet, a temporary one, and say which it is."""
    url = database_url(options.db, options.data_dir)
    is_new = url.startswith(SQLITE_PREFIX) and not Path(url.removeprefix(SQLITE_PREFIX)).expanduser().exists()
    if not (options.demo and is_new):
        with open_store(url, create=False) as store:
            if not options.demo or any(store.counts().profiles.values()):
                yield store, False
                return
    with TemporaryDirectory() as folder, open_store(f"{SQLITE_PREFIX}{folder}/demo.db") as store:
        store.url = without_password(url)  # what messages are to name
        yield store, True


@contextmanager
def _copy(store: Store, tags: Sequence[str]) -> Iterator[Store]:
    """Copy the profiles and the episodes of some tags, for a run that is not to change the database."""
    with TemporaryDirectory() as folder, open_store(f"{SQLITE_PREFIX}{folder}/copy.db") as copy:
        copy.put_entries((kind, profile) for kind in PROFILE_KINDS for profile in store.profiles(kind))
        copy.put_entries(("episodes", episode) for tag in dict.fromkeys(tags) for episode in store.episodes(tag))
        yield copy
    print("note: the episodes of this run are not kept (--no-push-to-db)", file=sys.stderr)


def _runs(options: Options) -> list[Run]:
    """Return one run for each model."""
    task = task_of(options.task)
    partner, evaluator = parse_model(options.partner_model), _evaluator(options)
    if options.tag and len(options.models) > 1:
        raise UserError("--tag names one run, but there are several --models; leave --tag out, or run them one by one")
    if options.calibrate:
        People([options.calibrate])  # a wrong file is told before anything runs
    template = load_template(options.prompt_template)
    _check_wording(options, template)
    warm = TEMPERATURE if options.temperature is None else options.temperature
    target = options.target_temperature
    if target is None:
        target = task.target_temperature if options.temperature is None else options.temperature
    cut = PRESETS[options.preset]
    return [
        Run(
            parse_model(model),
            partner,
            evaluator,
            task,
            template,
            template_hash(),
            warm,
            target,
            cut.top_p if options.top_p is None else options.top_p,
            cut.top_k if options.top_k is None else options.top_k,
            options.trials or task.trials,
            options.seed,
            options.tag,
        )
        for model in dict.fromkeys(options.models)
    ]


def _evaluator(options: Options, is_called: bool = True) -> Evaluator:
    return parse_evaluator(options.evaluator_model, options.panel, options.judge_repeats, is_called)


def _check_wording(options: Options, template: Template) -> None:
    """Compare the first turn with that of the training data: a file that is named must agree, another is mentioned.

    Raises:
        UserError: if they disagree.
    """
    if options.sft_data:
        if found := disagreement(options.sft_data, template):
            raise UserError(found)
        return
    path = data_home(options.data_dir) / SFT_DATA.name
    if options.task != "sft" and path.is_file() and any(parse_model(model).is_custom for model in options.models):
        with suppress(UserError):
            if found := disagreement(path, template):
                print(f"note: {found}", file=sys.stderr)


def _splits(options: Options) -> Splits:
    """Read the split file that is meant."""
    if options.demo and options.splits is None:
        return demo_splits()
    return load_splits(options.splits)


def _plan(options: Options, runs: Sequence[Run], store: Store) -> Plan[WorkItem]:
    """Work out what is to be run."""
    require_world(store, options.demo)
    task = runs[0].task
    if task.file:
        if options.url:
            raise UserError(f"--url: task {task.name} takes its combos from {task.file.name}; leave it out")
        path = data_home(options.data_dir) / task.file.name
        origins, repeated = load_origins(path, task, store)
        if repeated:
            print(f"{path.name}: {repeated} duplicate records are skipped", file=sys.stderr)
        if others := sum(origin.differs for origin in origins):
            print(f"{path.name}: note: {others} records {SAY_OTHER_WORDS}", file=sys.stderr)
        by_run = [items_of_origins(run, _with_partner(path, run, origins)) for run in runs]
    else:
        listed = fetch_combos(options.url) if options.url else None
        choice = choose(store, task, _splits(options), options.combos_per_env, options.seed, listed)
        if choice.missing:
            print(f"{choice.missing} scenarios of the split are not in {store.url} and are left out", file=sys.stderr)
        by_run = [items_of_combos(run, choice.combos) for run in runs]
    items: list[WorkItem] = [item for found in by_run for item in found[: options.limit]]
    check_profiles(store, [item.combo for item in items])
    return plan(store, items)


def _with_partner(path: Path, run: Run, origins: Sequence[Origin]) -> list[Origin]:
    """Keep the negatives that were played with the run's partner, where there are such: these compare best."""
    # Records tell no addresses, so one name at two of them is self-chat here.
    is_self_chat = without_address(run.model.name) == without_address(run.partner.name)
    kept = [origin for origin in origins if origin.is_with(run.partner.name, is_self_chat)]
    if not kept:
        found = sorted({" with ".join(origin.models) for origin in origins if origin.models})
        print(f"{path.name}: note: its negatives are of {', '.join(found)}, not with this partner", file=sys.stderr)
        return list(origins)
    if len(kept) < len(origins):
        left = len(origins) - len(kept)
        print(f"{path.name}: {left} records are of sessions with another partner and are left out", file=sys.stderr)
    return kept


def _plan_line(work: Plan[WorkItem], options: Options) -> str:
    """Describe the work in one line."""
    total = len(work.items) + len(work.done)
    parts = [f"task {options.task}, seed {options.seed}: {total} episodes, {len(work.done)} done before"]
    if work.failed:
        parts.append(f"{work.failed} failed before and run again")
    if work.unscored:
        parts.append(f"{work.unscored} only to be judged")
    return ", ".join(parts)


def _show(options: Options, runs: Sequence[tuple[str, list[str]]], store: Store) -> bool:
    """Print the tables, and write them if asked for; return whether there was anything."""
    hard = hard_subset(_splits(options))
    partner, evaluator = name_of(options.partner_model), _evaluator(options, is_called=False)
    judged_by = short_name(evaluator.name) if isinstance(evaluator, ModelSpec) else evaluator.name
    people = People([options.calibrate]) if options.calibrate else None
    rows: dict[str, list[dict[str, object]]] = {}
    for model, tags in runs:
        scores = scores_of(store, tags)
        if not scores:
            continue
        results = results_of(scores, hard)
        title = f"{short_name(model)} with {short_name(partner)}, task {options.task}, judged by {judged_by}"
        print("\n".join([results_table(title, results), *panel_table(scores)]))
        if people:
            print(calibration_table(store, tags, people))
        print("".join(f"{line}\n" for line in simulation_note(scores)), end="")
        for result in results:
            rows.setdefault(result.subset, []).append(upstream_row(model, result))
    if options.output_to_jsonl and rows:
        for path in write_jsonl(options.save_dir, partner, rows):
            print(f"written: {path}")
    return bool(rows)
