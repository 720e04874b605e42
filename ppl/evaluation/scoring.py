"""From answers to scores: units, marks, means with intervals, and what could not be read or was not answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ppl.evaluation.intervals import mean_interval
from ppl.evaluation.judge import Judge, Request
from ppl.evaluation.protocol import Protocol, Score, Unit, rebuild
from ppl.evaluation.rows import Row, merge

OVERALL = "overall"


@dataclass(frozen=True)
class Report:
    """What one run of one benchmark is worth."""

    benchmark: str
    protocol: Mapping[str, Any]
    model: str
    scores: Sequence[Score]
    answered: int
    total: int
    """Questions of the benchmark; ``answered`` of them have a row, in a unit that lacks none."""
    unparsed: int
    """Units without a judge from which nothing could be read."""
    unjudged: int
    """Units that lack a judge's reply; the metrics that need it leave them out."""
    judge: Mapping[str, Any] | None
    """Its model, what else decides its replies, and a digest of its ``prompts``; None: no judge was needed or had."""
    malformed: int = 0
    """Units with all replies from which nothing could be read; what they count is the protocol's to say."""
    incomplete: int = 0
    """Units that lack some of their answers: a rotation, the other half of a pair. No mean counts them."""

    @property
    def coverage(self) -> float:
        """Share of the questions that were answered."""
        return self.answered / self.total if self.total else 0.0


def score(rows: Sequence[Row], judge: Judge | None = None) -> tuple[Report, list[Unit]]:
    """Mark the answers of one run, shards together.

    Raises:
        ValueError: There are none, they are not of one run of one benchmark by one protocol, or they lack a group or a
            fact that the protocol reads.
    """
    rows = _single_run(rows)
    first = rows[0]
    protocol = rebuild(first.protocol)
    units, incomplete = _whole_units(protocol, rows)
    asked = [_requests(protocol, unit) for unit in units]
    flat = [request for requests in asked for request in requests]
    given = iter(judge.ask(flat) if judge is not None else [None] * len(flat))
    marked = []
    for unit, requests in zip(units, asked, strict=True):
        replies = tuple(next(given) for _ in requests)
        with _told(protocol, unit):
            marked.append(Unit(unit, protocol.mark(unit, replies), requests, replies))
    with _told(protocol, rows):
        return _report(first, incomplete, protocol, marked, judge), marked


def judge_requests(rows: Sequence[Row]) -> list[Request]:
    """What a judge would be asked about a run, without asking."""
    rows = _single_run(rows)
    protocol = rebuild(rows[0].protocol)
    return [request for unit in _whole_units(protocol, rows)[0] for request in _requests(protocol, unit)]


def _requests(protocol: Protocol, unit: tuple[Row, ...]) -> tuple[Request, ...]:
    with _told(protocol, unit):
        return protocol.requests(unit)


def _whole_units(protocol: Protocol, rows: Sequence[Row]) -> tuple[list[tuple[Row, ...]], int]:
    """Those that lack no answer, and how many others there are."""
    with _told(protocol, rows):
        units = protocol.units(rows)
        whole = [unit for unit in units if protocol.is_whole(unit)]
    return whole, len(units) - len(whole)


def submission(rows: Sequence[Row]) -> Mapping[str, str]:
    """What the server of a benchmark's authors takes: file name -> text; empty where answers are public."""
    rows = _single_run(rows)
    protocol = rebuild(rows[0].protocol)
    with _told(protocol, rows):
        return protocol.submission(rows)


@contextmanager
def _told(protocol: Protocol, rows: Sequence[Row]) -> Iterator[None]:
    """Say so in words where rows are not what their protocol reads: their groups and facts are its own."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        shown = f"the answer to question {rows[0].id!r}" if len(rows) == 1 else f"{len(rows)} answers"
        first = rows[0]
        msg = (
            f"got {shown} of {first.benchmark} with groups {list(first.groups)} and facts {list(first.facts)}, in "
            f"which protocol {protocol.name} does not find what it reads ({type(error).__name__}: {error}), expected "
            "rows as `ppl predict` wrote them: answer again"
        )
        raise ValueError(msg) from error


def prompts_digest(protocol: Protocol, units: Sequence[Unit]) -> str:
    """Tell a judge's prompts apart in 16 hexadecimal digits, whatever was answered.

    It is of what is asked about units whose questions, references and answers are taken out. Options and facts stay in:
    runs that answered different parts of a benchmark may differ in it though its words are the same.
    """
    prompts = {
        json.dumps(request)
        for unit in units
        for request in protocol.requests(
            tuple(replace(row, question="{question}", answer="{answer}", text="…") for row in unit.rows)
        )
    }
    return hashlib.sha256("\n".join(sorted(prompts)).encode()).hexdigest()[:16]


def _report(first: Row, incomplete: int, protocol: Protocol, marked: list[Unit], judge: Judge | None) -> Report:
    judged = [unit for unit in marked if unit.requests]
    unread = [unit for unit in marked if unit.mark.parsed is None]
    scores = [score for metric in protocol.metrics for score in _means(metric, protocol.metrics[metric], marked)]
    return Report(
        benchmark=first.benchmark,
        protocol={**first.protocol, "name": protocol.name, "source": protocol.source},
        model=first.model,
        scores=[*scores, *protocol.extra_scores(marked)],
        answered=sum(len(unit.rows) for unit in marked),
        total=first.total,
        unparsed=sum(not unit.requests for unit in unread),
        unjudged=sum(None in unit.replies for unit in judged),
        incomplete=incomplete,
        judge=None if judge is None or not judged else {**judge.identity, "prompts": prompts_digest(protocol, marked)},
        malformed=sum(bool(unit.requests) and None not in unit.replies for unit in unread),
    )


def _means(metric: str, factor: float, units: Sequence[Unit]) -> Iterator[Score]:
    groups: dict[str, list[Unit]] = {OVERALL: list(units)}
    for unit in units:
        for name, value in unit.rows[0].groups.items():
            groups.setdefault(f"{name}={value}", []).append(unit)
    for group, members in groups.items():
        if group == OVERALL or any(metric in unit.mark.values for unit in members):
            yield mean_score(metric, group, members, factor)


def mean_score(metric: str, group: str, units: Sequence[Unit], factor: float) -> Score:
    """Mean of a metric over the units it counts in, with its interval."""
    counted = [unit for unit in units if unit.mark.values.get(metric) is not None]
    values = [factor * float(unit.mark.values[metric] or 0.0) for unit in counted]
    if not values:
        return Score(metric, group, None, 0)
    interval = mean_interval(values, [unit.rows[0].cluster or unit.rows[0].id for unit in counted])
    low, high = (None, None) if interval is None else interval
    return Score(metric, group, sum(values) / len(values), len(values), low, high)


def _single_run(rows: Sequence[Row]) -> list[Row]:
    if not rows:
        msg = "got no answered question, expected files that `ppl predict` wrote"
        raise ValueError(msg)
    runs = {(row.benchmark, repr(row.protocol), row.model) for row in rows}
    if len(runs) > 1:
        shown = "; ".join(sorted(f"{benchmark} of {model or 'a model'}" for benchmark, _, model in runs))
        msg = f"got answers of {len(runs)} runs ({shown}), expected the shards of one: score them one by one"
        raise ValueError(msg)
    return merge(rows)
