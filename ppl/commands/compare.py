"""``ppl compare``: two runs of one benchmark side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ppl.commands.judge_arguments import add_judge_arguments, judge_of, tell_estimate, tell_failures
from ppl.commands.protocol_arguments import add_protocol_arguments, import_protocols


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "compare",
        help="two runs of one benchmark side by side, with paired intervals",
        description="Compares what two models, or one model by two protocols, answered to the same questions. The "
        "interval is of the difference: both runs see the same resampled videos.",
        epilog="example: ppl compare runs/eval/average runs/eval/weighted",
    )
    parser.add_argument("first", help="rows-*.jsonl of a run, or their folder")
    parser.add_argument("second", help="the same of another run")
    parser.add_argument("--json", metavar="FILE", help="write the differences as JSON; - for the terminal")
    add_protocol_arguments(parser)
    add_judge_arguments(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from ppl.evaluation.comparison import compare, to_json, to_markdown
    from ppl.evaluation.runs import read_run
    from ppl.evaluation.scoring import judge_requests

    import_protocols(options)
    first, second = (read_run(Path(file)) for file in (options.first, options.second))
    judge = judge_of(options)
    tell_estimate([*judge_requests(first), *judge_requests(second)], judge, options)
    if options.dry_run:
        return
    comparison = compare(first, second, judge)
    tell_failures(judge)
    if options.json == "-":
        sys.stdout.write(to_json(comparison))
        return
    if options.json:
        Path(options.json).write_text(to_json(comparison), encoding="utf-8")
    sys.stdout.write(to_markdown(comparison))
