"""``ppl ablate``: run what is missing of a grid, and report after each cell."""

from __future__ import annotations

import argparse
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ppl.ablation.cell import Job, begun, finish, finished
from ppl.ablation.jobs import cells, preparations
from ppl.ablation.outcome import collect, report
from ppl.ablation.runner import Runner, devices
from ppl.ablation.spec import Ablation, read_ablation
from ppl.ablation.stages import measured


def run_ablate(options: argparse.Namespace) -> None:
    """Run the ablation of ``options.config``; what is finished is not run again.

    Exits with 1 if a cell failed; the others are run and reported all the same.

    Raises:
        ValueError: Another process works in the folder, or options or YAML are wrong.
    """
    ablation = read_ablation(options.config)
    if options.seeds:
        ablation = replace(ablation, seeds=options.seeds)
    root = Path(options.output or f"runs/ablations/{ablation.name}")
    extra = [word for word in options.arguments if word != "--"]
    console = Console()
    if options.dry_run:
        describe(ablation, root, extra, console)
        return
    root.mkdir(parents=True, exist_ok=True)
    with alone(root):
        (root / "ablation.yaml").write_text(Path(options.config).read_text())
        grid = Grid(ablation, root, extra, console)
        if not options.report_only:
            grid.run(Runner(devices(options.devices), console))
        reported = grid.report()
        failed = [result for result in collect(grid.jobs()) if result.error]
    for result in failed:
        console.print(f"[red]failed[/red] {result.row}, seed {result.seed}: {result.error.splitlines()[-1]}")
        console.print(f"        its log: {root / result.folder / 'log.txt'}", style="dim")
    if reported:
        console.print(f"report: {root / 'report.html'}")
    if failed or not reported:
        sys.exit(1)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the ablation's folder.

    Raises:
        ValueError: Another process holds it.
    """
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = (
                f"another `ppl ablate` works in {root}, expected one at a time: wait for it, or choose another --output"
            )
            raise ValueError(msg) from None
        yield


class Grid:
    """The cells of an ablation in its folder.

    Args:
        ablation: What to run.
        root: Folder of the ablation.
        extra: Words of the command line for every cell.
        console: Shows what goes on.
    """

    def __init__(self, ablation: Ablation, root: Path, extra: list[str], console: Console) -> None:
        self.ablation = ablation
        self.root = root
        self.extra = extra
        self.console = console

    def jobs(self) -> list[Job]:
        """The ablation's cells, and those of further seeds that were run in this folder before."""
        before = {int(file.parent.name.removeprefix("seed_")) for file in self.root.glob("*/seed_*/result.json")}
        seeds = [*self.ablation.seeds, *sorted(before - set(self.ablation.seeds))]
        return [job for seed in seeds for job in cells(self.ablation, self.root, seed, self.extra)]

    def run(self, runner: Runner) -> None:
        """Prepare, run and measure what is missing."""
        wanted = []
        for seed in self.ablation.seeds:
            chain, jobs = (
                preparations(self.ablation, self.root, seed),
                cells(self.ablation, self.root, seed, self.extra),
            )
            if not all(map(finished, jobs)):
                wanted.append((chain, jobs))
        for seed_jobs, reason in runner.prepare(wanted):
            for job in seed_jobs:
                finish(job, replace(begun(job), error=reason))
        ready = [job for chain, jobs in wanted if all(map(finished, chain)) for job in jobs]
        runner.run(ready, self.report)
        first = cells(self.ablation, self.root, self.ablation.seeds[0], self.extra)
        runner.measure([job for job in first if finished(job) and measured(job) is None])

    def report(self) -> bool:
        """Write the report; say why where cells cannot be compared, which stops none of them."""
        try:
            report(self.ablation, self.root, self.jobs(), sys.argv)
        except ValueError as error:
            self.console.print(f"[red]no report[/red]: {error}", highlight=False)
            return False
        return True


def describe(ablation: Ablation, root: Path, extra: list[str], console: Console) -> None:
    """Print every command and whether it still has to run."""
    for seed in ablation.seeds:
        for job in [*preparations(ablation, root, seed), *cells(ablation, root, seed, extra)]:
            state = "finished" if finished(job) else "to run"
            console.print(
                f"{job.row}, seed {seed}: {state}\n  ppl {' '.join(job.fit)}", highlight=False, soft_wrap=True
            )
            if job.test:
                console.print(f"  ppl {' '.join(job.test)}", highlight=False, soft_wrap=True)
