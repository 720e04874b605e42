"""Answers to questions, as `ppl predict` writes them, without a model."""

import json

from ppl.evaluation.items import Shown
from ppl.evaluation.judge import Judge
from ppl.evaluation.rows import Row, prompt_digest, to_line
from ppl.evaluation.scoring import score

SHOWN = Shown(indices=(0, 10, 20, 30), times=(0.0, 1.0, 2.0, 3.0), duration=4.0, fps=10.0)
"""Four frames of four seconds at ten a second."""


def make_row(**values):
    plain = {"benchmark": "made-up", "protocol": {}, "total": 1, "id": "1", "cluster": "", "groups": {}}
    plain |= {"question": "q?", "options": [], "answer": "A", "answers": [], "facts": {}, "prompt": "", "text": ""}
    return Row(**plain | {"prompt_hash": "h", "guide": ""} | values)


def answer(benchmark, protocol, texts):
    """Rows of a benchmark's first questions, with what is said to each; none may tell where files were."""
    items = benchmark.items()
    rows = []
    for item, text in zip(items, texts, strict=False):
        prompt = protocol.prompt(item, [SHOWN for _ in item.media])
        rows.append(
            make_row(
                benchmark=benchmark.name,
                protocol=json.loads(json.dumps(protocol.identity())),
                total=len(items),
                id=item.id,
                cluster=item.cluster,
                groups=item.groups,
                question=item.question,
                options=list(item.options),
                answer=item.answer,
                answers=list(item.answers),
                facts=json.loads(json.dumps(item.facts)),
                prompt=prompt,
                prompt_hash=prompt_digest("", prompt, "", ""),
                text=text,
            )
        )
    roots = [value for value in vars(benchmark).values() if isinstance(value, str) and value.startswith("/")]
    assert not any(root in to_line(row) for root in roots for row in rows)
    return rows


def scores(rows, judge=None):
    """The report's numbers by metric and group."""
    report, _ = score(rows, judge)
    return {(each.metric, each.group): each.value for each in report.scores}, report


def write_json(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


class FixedJudge(Judge):
    """Replies as it was told, and remembers what it was asked."""

    def __init__(self, replies):
        self.replies = list(replies)
        self.asked = []

    @property
    def identity(self):
        return {"model": "fixed"}

    def ask(self, requests):
        self.asked += requests
        assert len(self.replies) == len(requests)
        return self.replies
