"""``ppl score``: what answers are worth, on any machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ppl.commands.judge_arguments import add_judge_arguments, judge_of, tell_estimate, tell_failures
from ppl.commands.protocol_arguments import add_protocol_arguments, import_protocols

if TYPE_CHECKING:
    from ppl.evaluation.protocol import Unit
    from ppl.evaluation.rows import Row
    from ppl.evaluation.scoring import Report


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "score",
        help="score the answers of `ppl predict` to a benchmark; no GPU, no torch",
        description="Scores runs of `ppl predict -c recipes/eval/….yaml`. Files of one run, one from each process, are "
        "joined; several runs give several tables. Coverage and answers that could not be read stand beside scores.",
        epilog="example: ppl score runs/eval/videomme --json scores.json. Exit status: 0 if all went well, 1 for files "
        "that cannot be scored or too low a coverage, 2 if the command line is at fault. More: docs/evaluate.md.",
    )
    parser.add_argument("files", nargs="+", help="rows-*.jsonl, or the folders that hold them")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; - for the terminal")
    parser.add_argument("--csv", metavar="FILE", help="write one line a score; - for the terminal")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables; - for the terminal, the default")
    parser.add_argument(
        "--details", metavar="FILE", help="write a JSON line for each mark: answers, what was read, the judge's replies"
    )
    parser.add_argument("--submission", metavar="FOLDER", help="write what the server of a test split's authors takes")
    parser.add_argument(
        "--expect-coverage", type=float, metavar="SHARE", help="fail if fewer of a benchmark's questions were answered"
    )
    add_protocol_arguments(parser)
    add_judge_arguments(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from ppl.evaluation.runs import read_runs
    from ppl.evaluation.scoring import judge_requests, score

    import_protocols(options)
    runs = read_runs([Path(file) for file in options.files])
    judge = judge_of(options)
    tell_estimate([request for rows in runs for request in judge_requests(rows)], judge, options)
    if options.dry_run:
        return
    if options.submission:
        _write_submissions(runs, Path(options.submission))
    scored = [score(rows, judge) for rows in runs]
    tell_failures(judge)
    _write(scored, options)
    _check_coverage([report for report, _ in scored], options.expect_coverage)


def _write(scored: Sequence[tuple[Report, list[Unit]]], options: argparse.Namespace) -> None:
    from ppl.evaluation.reports import to_csv, to_details, to_json, to_markdown

    reports = [report for report, _ in scored]
    wanted = [(to_json, options.json), (to_csv, options.csv), (to_markdown, options.markdown)]
    if not any(file for _, file in wanted):
        wanted = [(to_markdown, "-")]
    for write, file in wanted:
        if file == "-":
            sys.stdout.write(write(reports))
        elif file:
            Path(file).write_text(write(reports), encoding="utf-8")
    if options.details:
        details = "".join(to_details(report, units) for report, units in scored)
        Path(options.details).write_text(details, encoding="utf-8")


def _write_submissions(runs: Sequence[Sequence[Row]], folder: Path) -> None:
    from ppl.evaluation.scoring import submission

    files: dict[str, str] = {}
    for rows in runs:
        own = submission(rows)
        if not own or files.keys() & own.keys():
            row, told = rows[0], "another run's files" if own else "none to be written"
            raise ValueError(
                f"got --submission, and of {row.benchmark} {told}; expected one run of a test split whose authors' "
                f"server takes files, by a protocol that writes them: score {row.benchmark} by itself"
            )
        files |= own
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    sys.stderr.write(f"submission: {', '.join(str(folder / name) for name in files)}\n")


def _check_coverage(reports: Sequence[Report], expected: float | None) -> None:
    for report in reports:
        if expected is not None and report.coverage < expected:
            raise ValueError(
                f"got {report.answered} of {report.total} questions of {report.benchmark} answered, a coverage of "
                f"{report.coverage:.3f}, expected {expected:g}: run `ppl predict` again, which goes on where it stopped"
            )
