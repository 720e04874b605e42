"""Two runs side by side, over the questions that both answered."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ppl.evaluation.intervals import Interval, difference_interval
from ppl.evaluation.judge import Judge
from ppl.evaluation.protocol import Unit, rebuild
from ppl.evaluation.reports import protocol_name
from ppl.evaluation.rows import Row
from ppl.evaluation.scoring import OVERALL, Report, score


class Difference(NamedTuple):
    """The second run's mean minus the first's, over the same units."""

    metric: str
    group: str
    first: float
    second: float
    size: int
    interval: Interval | None
    """Of the difference, 95 %, whole clusters resampled; None for one cluster."""


@dataclass(frozen=True)
class Comparison:
    """What two runs of one benchmark differ by."""

    reports: tuple[Report, Report]
    differences: Sequence[Difference]
    unpaired: tuple[int, int]
    """Units that only the first, and only the second, has: left out."""


def compare(first: Sequence[Row], second: Sequence[Row], judge: Judge | None = None) -> Comparison:
    """Score both runs and pair their units.

    Raises:
        ValueError: They are of different benchmarks, or have no question in common.
    """
    (one, units), (other, others) = score(first, judge), score(second, judge)
    if one.benchmark != other.benchmark:
        msg = f"got a run of {one.benchmark} and one of {other.benchmark}, expected two of one benchmark"
        raise ValueError(msg)
    known = {_key(unit): unit for unit in others}
    pairs = [(unit, known[_key(unit)]) for unit in units if _key(unit) in known]
    if not pairs:
        msg = (
            f"got two runs of {one.benchmark} without a question in common, expected some: are they of two parts of it?"
        )
        raise ValueError(msg)
    factors = rebuild(first[0].protocol).metrics
    differences = [each for metric, factor in factors.items() for each in _differences(metric, factor, pairs)]
    if not differences:
        msg = (
            f"got two runs of {one.benchmark} without a score in common, expected some of {list(factors)}: are both "
            "protocols of one kind, are the answers public, and does it take a judge (--judge-model)?"
        )
        raise ValueError(msg)
    return Comparison((one, other), differences, (len(units) - len(pairs), len(others) - len(pairs)))


def _differences(metric: str, factor: float, pairs: Sequence[tuple[Unit, Unit]]) -> Iterator[Difference]:
    groups: dict[str, list[tuple[float, float, str]]] = {}
    for one, other in pairs:
        a, b = one.mark.values.get(metric), other.mark.values.get(metric)
        if a is None or b is None:
            continue
        row = one.rows[0]
        for group in (OVERALL, *(f"{name}={value}" for name, value in row.groups.items())):
            groups.setdefault(group, []).append((factor * a, factor * b, row.cluster or row.id))
    for group, members in groups.items():
        before, after, clusters = (list(column) for column in zip(*members, strict=True))
        size = len(members)
        interval = difference_interval(after, before, clusters)
        yield Difference(metric, group, sum(before) / size, sum(after) / size, size, interval)


def _key(unit: Unit) -> tuple[str, ...]:
    return tuple(sorted(row.id for row in unit.rows))  # shards have no order of their own


def to_json(comparison: Comparison) -> str:
    """The differences, and what each run is."""
    runs = [{"model": run.model, "protocol": run.protocol, "judge": run.judge} for run in comparison.reports]
    values = {
        "benchmark": comparison.reports[0].benchmark,
        "runs": runs,
        "differences": [{**each._asdict(), "interval": each.interval} for each in comparison.differences],
        "unpaired": comparison.unpaired,
    }
    return json.dumps(values, indent=2, ensure_ascii=False, default=dict) + "\n"


def to_markdown(comparison: Comparison) -> str:
    """A table of the differences."""
    one, other = comparison.reports
    lines = [
        f"## {one.benchmark}: {one.model or 'first'} and {other.model or 'second'}",
        "",
        "| metric | group | first | second | difference | 95 % interval | n |",
        "|---|---|---:|---:|---:|---:|---:|",
        *(_line(each) for each in comparison.differences),
        "",
        f"left out: {comparison.unpaired[0]} units of the first and {comparison.unpaired[1]} of the second alone · "
        f"protocols: {_said(one)} and {_said(other)}",
        "",
    ]
    return "\n".join(lines)


def _said(report: Report) -> str:
    judge = "" if report.judge is None else f", judged by {report.judge['model']} ({report.judge['prompts']})"
    return f"{protocol_name(report)}{judge}"


def _line(each: Difference) -> str:
    change = each.second - each.first
    interval = "" if each.interval is None else f"{each.interval.low:+.2f} – {each.interval.high:+.2f}"
    values = f"{each.first:.2f} | {each.second:.2f} | {change:+.2f} | {interval} | {each.size}"
    return f"| {each.metric} | {each.group} | {values} |"
