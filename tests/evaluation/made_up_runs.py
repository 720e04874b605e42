"""Answered questions of a made-up benchmark, and protocols that mark them."""

import json

from ppl.evaluation.choices import mark_choice
from ppl.evaluation.judge import Judge, Request
from ppl.evaluation.judge_replies import read_verdict
from ppl.evaluation.letters import first_capital
from ppl.evaluation.protocol import Mark, Protocol, Score
from ppl.evaluation.rows import Row, to_line
from ppl.evaluation.text_metrics import token_f1


class Choice(Protocol):
    name = "official"
    version = "1"
    source = "nowhere"
    metrics = {"accuracy": 100.0}  # noqa: RUF012

    def __init__(self, strict: bool = True):
        self.strict = strict

    def prompt(self, item, shown):
        return item.question

    def mark(self, rows, replies):
        return mark_choice(rows[0], first_capital(rows[0].text), unparsed_counts=self.strict)

    def submission(self, rows):
        if rows[0].answer is not None:
            return {}
        return {"made_up.json": json.dumps({row.id: first_capital(row.text) for row in rows})}


class Open(Protocol):
    name = "paper"
    version = "2"
    source = "nowhere"
    metrics = {"judged": 100.0, "score": 1.0, "f1": 100.0}  # noqa: RUF012

    def prompt(self, item, shown):
        return item.question

    def requests(self, rows):
        return (Request("Judge.", f"{rows[0].question} {rows[0].answer} {rows[0].text}"),)

    def mark(self, rows, replies):
        reply = None if replies[0] is None else read_verdict(replies[0])
        f1 = token_f1(rows[0].text, rows[0].answer)
        if reply is None:
            return Mark({"judged": None, "score": None, "f1": f1}, None)
        return Mark({"judged": float(reply[0]), "score": reply[1], "f1": f1}, str(reply))

    def extra_scores(self, units):
        return [Score("units", "overall", float(len(units)), len(units))]


class SayingJudge(Judge):
    """Replies in their order."""

    def __init__(self, *replies):
        self.replies = replies

    @property
    def identity(self):
        return {"model": "sayer", "temperature": 0.0}

    def ask(self, requests):
        assert len(requests) == len(self.replies)
        return list(self.replies)


def rows_of(texts, protocol=None, answers="A", model="", benchmark="made-up", total=None):
    protocol = protocol or Choice()
    return [
        Row(
            benchmark=benchmark,
            protocol=protocol.identity(),
            total=total or len(texts),
            id=str(i),
            cluster=f"v{i // 2}",
            groups={"duration": ("short", "long")[i % 2]},
            question=f"q{i}?",
            options=["x", "y"],
            answer=answers if answers is None or isinstance(answers, str) else answers[i],
            answers=[],
            facts={},
            prompt=f"q{i}?",
            prompt_hash="h",
            guide=f"q{i}?",
            text=text,
            model=model,
        )
        for i, text in enumerate(texts)
    ]


def write_rows(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(to_line(row) for row in rows))
    return file
