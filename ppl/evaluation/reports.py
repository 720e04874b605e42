"""Scores for people and for programs: Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ppl.evaluation.judge import prompt_digest
from ppl.evaluation.protocol import Score, Unit, rebuild
from ppl.evaluation.scoring import Report

_SCORE = ("metric", "group", "value", "low", "high", "size")
_COLUMNS = ("benchmark", "protocol", "model", "judge", "judge_prompts", *_SCORE)
_COUNTS = ("answered", "total", "coverage", "incomplete", "unparsed", "unjudged", "malformed")


def to_json(reports: Sequence[Report]) -> str:
    """Everything of every report."""
    return json.dumps([_plain(report) for report in reports], indent=2, ensure_ascii=False) + "\n"


def to_csv(reports: Sequence[Report]) -> str:
    """One line a score."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *_COUNTS])
    for report in reports:
        judge = report.judge or {}
        own = [report.benchmark, protocol_name(report), report.model, judge.get("model"), judge.get("prompts")]
        counts = [getattr(report, name) for name in _COUNTS]
        for score in report.scores:
            writer.writerow([*own, *(getattr(score, name) for name in _SCORE), *counts])
    return text.getvalue()


def to_markdown(reports: Sequence[Report]) -> str:
    """A table of every report, and below it what else must be known to read it."""
    return "\n".join(_markdown(report) for report in reports)


def to_details(report: Report, units: Sequence[Unit]) -> str:
    """A JSON line for each unit of a run: answers, what was read from them, marks, and the judge's replies."""
    own = {"benchmark": report.benchmark, "protocol": protocol_name(report), "model": report.model}
    judge = None if report.judge is None else report.judge["model"]
    lines = [json.dumps(own | {"judge": judge} | _detail(unit), ensure_ascii=False) + "\n" for unit in units]
    return "".join(lines)


def protocol_name(report: Report) -> str:
    """Name, version and what differs from the defaults: ``paper-1 (subtitles=True)``."""
    return rebuild(report.protocol).title


def _markdown(report: Report) -> str:
    lines = [
        f"## {report.benchmark}, protocol {protocol_name(report)}",
        "",
        "| metric | group | score | 95 % interval | n |",
        "|---|---|---:|---:|---:|",
        *(_line(score) for score in report.scores),
        "",
        f"answered {report.answered} of {report.total} ({100 * report.coverage:.1f} %) · incomplete "
        f"{report.incomplete} · unparsed {report.unparsed} · unjudged {report.unjudged} · "
        f"malformed {report.malformed} · judge: {_judge(report)} · model: {report.model or 'not named'}",
        f"protocol from {report.protocol['source']}; arguments {json.dumps(report.protocol['init_args'])}",
        "",
    ]
    return "\n".join(lines)


def _line(score: Score) -> str:
    value = "–" if score.value is None else f"{score.value:.2f}"
    interval = "" if score.low is None or score.high is None else f"{score.low:.2f} – {score.high:.2f}"
    return f"| {score.metric} | {score.group} | {value} | {interval} | {score.size} |"


def _judge(report: Report) -> str:
    return "none" if report.judge is None else ", ".join(f"{key} {value}" for key, value in report.judge.items())


def _plain(report: Report) -> dict[str, Any]:
    values = asdict(report)
    return values | {"coverage": report.coverage, "scores": [score._asdict() for score in report.scores]}


def _detail(unit: Unit) -> dict[str, Any]:
    told = zip(unit.requests, unit.replies, strict=True)
    return {
        "ids": [row.id for row in unit.rows],
        "questions": [row.question for row in unit.rows],
        "answer": unit.rows[0].answer,
        "texts": [row.text for row in unit.rows],
        "parsed": unit.mark.parsed,
        "values": dict(unit.mark.values),
        "replies": [{"prompt": prompt_digest(request), "reply": reply} for request, reply in told],
    }
