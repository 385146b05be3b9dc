"""The command line: one program, whose recipe a script fills in; the only place that prints."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captioner.engines import ENGINES
from captioner.errors import RecapError, Refused
from captioner.reasons import OUTCOMES, REASONS, SHARD_REASONS
from captioner.recipe import Pace, Recipe
from captioner.registry import load
from pipelines.costs import account
from pipelines.downloading import DownloadCommand
from pipelines.exporting import ExportCommand
from pipelines.keeping import GcCommand, RepairCommand, told
from pipelines.models import access_of, price_of
from pipelines.options import Dataset, Where, options_class, recipe_from, versions
from pipelines.preflight import PlanCommand, plan
from shards.plan import Plan
from shards.status import Status, status
from shards.store import Store
from shards.verdict import Verified
from shards.verify import verify

VERDICTS = {
    0: "[green]clean: every input sample is accounted for once[/green]",
    1: "[yellow]sound, but not all is well[/yellow]",
    4: "[red]damaged[/red]",
}
# Commands of the packages above this one, and the extra that each needs: word -> (summary, extra, "module:function").
# The function takes the words after its own and the console; its module is imported only when its word is said.
ABOVE = {
    "train": ("Train an EVEv2 or ELVA model, stage by stage.", "train", "trainer.commands:train"),
    "eval": ("Judge a trained model on held-out pictures and captions.", "train", "trainer.commands:evaluate"),
    "caption": ("Caption one picture with a trained model.", "train", "trainer.commands:caption"),
    "serve": ("One picture or clip in, one caption out, over HTTP.", "serving", "serving.commands:serve"),
}
ALONE_SECONDS = 0.5  # a listing that takes longer has Ray start beside it
Folder = Annotated[str, tyro.conf.Positional]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCommand:
    """Where a run stands: shards, outcomes, reasons."""

    out: Folder
    """The run's folder, a path or URL."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def run(self, console: Console) -> int:
        """Print it. Exit code 0 when every shard is committed, 1 when not yet."""
        there = status(Store(self.out))
        if self.json:
            print(json.dumps(dataclasses.asdict(there)))
        else:
            _show_status(console, there)
        return 0 if there.complete else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyCommand:
    """Prove a corpus: every input sample accounted for once, every byte as it was written."""

    out: Folder
    """The run's folder, a path or URL."""
    json: bool = False
    """Print one JSON object instead of a table."""
    input: bool = True
    """Read the input shards again and compare sample for sample."""

    def run(self, console: Console) -> int:
        """Print the verdict. 0 sound and complete, 1 sound but unfinished or with failed shards, 4 damaged."""
        verdict = verify(Store(self.out), read_input=self.input)
        if self.json:
            print(json.dumps(dataclasses.asdict(verdict) | {"exit_code": verdict.exit_code}))
        else:
            _show_verified(console, verdict)
        return verdict.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCommand:
    """Write OUT/report.html: pictures with their old and new captions, outcomes and plots, in one file."""

    out: Folder
    """The run's folder, a path or URL."""
    samples: int = 60
    """Pictures to show at most; every outcome gets its share."""

    def run(self, console: Console) -> int:
        """Write the page and say where it is."""
        from pipelines.report import write_report  # Jinja and the decoders only where they are needed

        told(console, f"report: {write_report(Store(self.out), self.samples)}")
        return 0


def recap(arguments: Sequence[str] | None = None) -> int:
    """The `recap` console script. Returns the exit code."""
    commands: dict[str, Any] = {"status": StatusCommand, "verify": VerifyCommand, "report": ReportCommand}
    commands |= {"export": ExportCommand, "gc": GcCommand, "repair": RepairCommand, "plan": PlanCommand}
    commands |= {"download": DownloadCommand}
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot spell ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["plan"]:  # its options depend on the dataset that comes next
        return guarded(lambda: plan(words[1:], console))
    if words and words[0] in ABOVE:
        return guarded(lambda: _above(words, console))
    above = "".join(f"\n  {word:8} {summary}" for word, (summary, _, _) in ABOVE.items())
    description = (
        "Recap: recaption shards of pictures and clips, prove the corpus, look at it. "
        f"Runs start with pipelines/recap_*.py.\nFurther commands, each with a --help of its own:{above}"
    )
    command = tyro.extras.subcommand_cli_from_dict(commands, prog="recap", description=description, args=words)
    return guarded(lambda: command.run(console))


def _above(words: list[str], console: Console) -> int:
    """A command of a package above. Raises Refused where what it needs is not installed."""
    _, extra, place = ABOVE[words[0]]
    try:
        command: Any = load({words[0]: place}, words[0])
    except ModuleNotFoundError as error:
        raise Refused(f"recap {words[0]} needs {error.name}: pip install 'recap[{extra}]'") from error
    return int(command(words[1:], console))


def main(dataset: Dataset, arguments: Sequence[str] | None = None) -> int:
    """A dataset's script: plan, run, say how it ended. Returns the exit code."""
    options: Any = tyro.cli(options_class(dataset), args=arguments, description=dataset.summary)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    return guarded(lambda: _run(dataset, options))


def _planned(recipe: Recipe, where: Where, address: str, around: ExitStack) -> Plan:
    """The plan over what is at --input; where listing takes long, Ray starts meanwhile, to be stopped with `around`.

    100,000 shards are listed in as long as Ray takes. A plan that is refused at once has started nothing.
    """
    from pipelines.actors import ray_cluster
    from pipelines.recaption import make_plan

    def planning() -> Plan:
        plan = make_plan(recipe, where.input, versions(recipe), where.output)
        assert plan.run_id  # digested here, while there is time
        return plan

    with ThreadPoolExecutor(1) as aside:
        planned = aside.submit(planning)
        if not wait([planned], timeout=ALONE_SECONDS).done:
            around.enter_context(ray_cluster(address))
        return planned.result()


def _run(dataset: Dataset, options: Any) -> int:
    with ExitStack() as around:
        return _run_inside(around, dataset, options)


def _run_inside(around: ExitStack, dataset: Dataset, options: Any) -> int:
    from pipelines.actors import default_address  # Ray only where a run starts, so that --help is quick
    from pipelines.fleet import hosting_of
    from pipelines.progress import progress
    from pipelines.recaption import Order, recaption

    console = Console(stderr=True)
    _refuse_relative(options.where, default_address())
    recipe = recipe_from(dataset, options)
    address = options.where.address or default_address()
    plan = _planned(recipe, options.where, address, around)
    order = Order(
        recipe=recipe,
        plan=plan,
        output=options.where.output,
        pace=Pace(**dataclasses.asdict(options.pace)),
        address=address,
        access=access_of(options.where.engine, load(ENGINES, options.where.engine), options.models),
        price=price_of(options.models),
    )
    if order.access is not None:
        hosting = hosting_of(options.where.engine, options.models, order.access, recipe.asking.frames)
        order = dataclasses.replace(order, hosting=hosting)
    _announce(console, plan, options.where, order.address)
    with progress(console) as show:
        finished = recaption(order, show)
    _show_status(console, status(Store(options.where.output)))
    if finished.state.retries:
        causes = ", ".join(f"{cause} {count}" for cause, count in sorted(finished.state.retries.items()))
        console.print(f"store asked again {finished.state.retries.total()} times: {causes}", highlight=False)
    for line in account(finished.state.counts, finished.state.spent).lines(order.price, finished.seconds):
        told(console, line)
    for shard, why in finished.state.failed.items():
        told(console, f"[red]failed[/red] {escape(shard)}: {escape(why)}", markup=True)
    if finished.state.stop_reason:
        told(console, f"[red]stopped[/red] {escape(finished.state.stop_reason)}", markup=True)
    elif finished.manifest:
        told(console, f"done: manifests/{finished.manifest.number:06d}.json in {options.where.output}")
    return finished.exit_code


def guarded(run: Any) -> int:
    """The exit code of run(), or of the error that it raises on purpose, which is told in one line."""
    try:
        return int(run())
    except RecapError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130


def _refuse_relative(where: Where, address: str) -> None:
    """In a submitted job a relative path would mean Ray's own copy of the working directory, which it throws away."""
    for name, path in (("--input", where.input), ("--output", where.output)):
        if address == "auto" and "://" not in path and not os.path.isabs(os.path.expanduser(path)):
            raise Refused(
                f"{name} {path} is relative to Ray's copy of the working directory: give a whole path or a URL"
            )


def _announce(console: Console, plan: Plan, where: Where, address: str) -> None:
    size = sum(each.size for each in plan.inputs)
    whither = escape(f"→ {where.engine} → {where.output}  (Ray: {address})")
    run = f"[bold]run {plan.run_id[:12]}[/bold]  {len(plan.inputs)} shards, {size / 1e6:,.1f} MB"
    told(console, f"{run}  {whither}", markup=True)


def _show_status(console: Console, there: Status) -> None:
    counts = there.totals["counts"]
    title = f"run {there.run_id[:12]}: {there.committed}/{there.shards} shards of {there.source}, by {there.engine}"
    table = Table(title=title, title_justify="left")
    table.add_column("outcome")
    table.add_column("samples", justify="right")
    table.add_column("of which")
    by_outcome: dict[str, list[str]] = {}
    for reason, count in there.totals["reasons"].items():
        outcome = REASONS[reason].outcome if reason in REASONS else "rejected"
        by_outcome.setdefault(outcome, []).append(f"{reason} {count}")
    for name in OUTCOMES:
        table.add_row(name, f"{counts.get(name, 0):,}", ", ".join(by_outcome.get(name, [])))
    table.add_section()
    table.add_row("read", f"{counts.get('read', 0):,}", "")
    console.print(table)
    if there.engines is not None:
        _show_engines(console, there.engines)
    for reason, count in there.totals["shard_reasons"].items():
        meaning = SHARD_REASONS[reason].meaning if reason in SHARD_REASONS else "a reason of a part of yours"
        console.print(f"[yellow]{count} shards: {reason}[/yellow] ({meaning})", highlight=False)


def _show_engines(console: Console, seen: dict[str, Any]) -> None:
    """The replicas as a run that goes on last told of them."""
    ago = max(0, int(time.time()) - seen["time"])
    table = Table(title=f"engines, {ago} s ago", title_justify="left")
    for name in ("replica", "state", "at it", "window", "answers", "tokens", "memory", "restarts", "last words"):
        table.add_column(name, justify="left" if name in ("replica", "state", "last words") else "right")
    hosts = {each["url"]: each for each in seen["hosts"]}

    def kept(host: dict[str, Any]) -> list[str]:
        if not host:
            return []
        return [f"{host['memory_bytes'] / 1e9:.1f} GB", str(host["restarts"]), escape(host["last_error"])]

    for each in seen["replicas"]:
        counts = [f"{each[name]:,}" for name in ("outstanding", "window", "answers", "tokens_out")]
        table.add_row(escape(each["name"]), each["state"], *counts, *kept(hosts.pop(each["name"], {})))
    for host in hosts.values():
        table.add_row(host["name"], host["state"], "", "", "", "", *kept(host))
    console.print(table)


def _show_verified(console: Console, verdict: Verified) -> None:
    table = Table(title=f"verify {verdict.run_id[:12]}", title_justify="left")
    table.add_column("check")
    table.add_column("result")
    for name, count in verdict.checked.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    for problem in verdict.problems[:50]:
        told(console, f"[red]{problem.check}[/red] {escape(problem.where)}: {escape(problem.detail)}", markup=True)
    if len(verdict.problems) > 50:
        console.print(f"… and {len(verdict.problems) - 50} problems more")
    console.print(VERDICTS[verdict.exit_code])
    for note in verdict.notes:
        told(console, f"  {note}")
