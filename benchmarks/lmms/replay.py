"""Stored texts go through lmms-eval's own tasks: the same prompts, marks and scores as our `lmms` protocols?

No medium is opened and no judge is asked: what a judge says depends on a digest of what it is told, so that scores are
equal only if its prompts are.
"""

import copy
import hashlib
import inspect
import io
import json
import math
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from ppl.evaluation.items import Item, Shown
from ppl.evaluation.judge import Judge, Request
from ppl.evaluation.protocol import Protocol
from ppl.evaluation.rows import Row
from ppl.evaluation.scoring import score

TOLERANCE = 1e-6
"""Relative: both sides take means of the same floats, in another order."""


@dataclass
class Case:
    """One benchmark: made-up documents as lmms-eval has them, the same questions as we have them, and texts."""

    task: str
    """lmms-eval's."""
    protocol: Protocol
    split: str
    docs: list[dict]
    items: list[Item]
    texts: list[str]
    scores: dict[str, tuple[str, str, float]]
    """Its metric -> our metric, its group, and what its value is to be multiplied by."""
    replies: Sequence[str] = ()
    """What a judge may say."""
    patch: Callable[[Any, dict], None] = lambda judge, names: None
    """Stand in for the judge and the dice, among the names of the task's module."""
    one_by_one: bool = True
    """Answers are marked on their own, and are compared so too."""
    round_to: int | None = None
    """Decimals that lmms-eval keeps."""
    overrides: dict = field(default_factory=dict)


class FakeJudge(Judge):
    """Replies by the digest of what it is told."""

    identity: ClassVar = {"model": "fake"}

    def __init__(self, replies: Sequence[str]) -> None:
        self.replies = replies
        self.asked: set[str] = set()

    def reply(self, system: str, user: str) -> str:
        told = json.dumps([system, user])
        self.asked.add(told)
        return self.replies[int(hashlib.sha256(told.encode()).hexdigest(), 16) % len(self.replies)]

    def ask(self, requests: Sequence[Request]) -> list[str | None]:
        return [self.reply(request.system, request.user) for request in requests]

    def post(self, url: object = None, headers: object = None, json: Any = None, **_: object) -> Any:
        """As `requests.post` to OpenAI."""
        said = {message["role"]: message["content"] for message in json["messages"]}
        message = {"content": self.reply(said.get("system", ""), said["user"])}
        body = {"choices": [{"message": message}], "model": "fake"}
        return SimpleNamespace(json=lambda: body, raise_for_status=lambda: None, status_code=200, text="")


def rows_of(case: Case) -> list[Row]:
    """As `ppl predict` writes them, without white space around what was said; lmms-eval strips it too."""
    return [
        Row(
            benchmark=case.task,
            protocol=case.protocol.identity(),
            total=len(case.items),
            **{name: getattr(item, name) for name in ("id", "cluster", "groups", "question", "options")},
            **{name: getattr(item, name) for name in ("answer", "answers", "facts")},
            prompt="",
            prompt_hash="",
            guide="",
            text=text.strip(),
        )
        for item, text in zip(case.items, case.texts, strict=True)
    ]


def run_lmms(case: Case, judge: FakeJudge, folder: Path, manager: Any) -> tuple[dict, list, dict[int, str], Callable]:
    """Replay a case: lmms-eval's scores, what it made of each answer, its prompts, and its mean of the first score."""
    import datasets
    from lmms_eval.api.model import lmms
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import get_task_dict

    prompts: dict[int, str] = {}

    class Replay(lmms):
        is_simple = True

        def generate_until(self, requests):
            numbers = [request.args[-3] for request in requests]
            prompts.update(zip(numbers, (request.args[0] for request in requests), strict=True))
            return [case.texts[number] for number in numbers]

        def loglikelihood(self, requests):
            raise NotImplementedError

        generate_until_multi_round = loglikelihood

    place = folder / case.task
    datasets.DatasetDict({case.split: datasets.Dataset.from_list(case.docs)}).save_to_disk(place)
    own = {"dataset_path": str(place), "dataset_name": None, "dataset_kwargs": {"load_from_disk": True}}
    [task] = get_task_dict([{"task": case.task, **own, **case.overrides}], manager, "simple").values()
    # Each of its functions lives in a copy of the module of its own, which importing by name does not give.
    for function in (task.config.process_results, *task.aggregation().values()):
        case.patch(judge, getattr(function, "__globals__", {}))
    found = simple_evaluate(
        model=Replay(),
        tasks=[task],
        task_manager=manager,
        bootstrap_iters=0,
        process_docs_parallel=1,
        log_samples=True,
        cli_args=SimpleNamespace(output_path=str(folder), process_with_media=False),
    )
    return (
        found["results"][case.task],
        found["samples"][case.task],
        prompts,
        task.aggregation()[next(iter(case.scores))],
    )


def compare(case: Case, replayed: tuple, theirs_asked: set[str]) -> dict:
    """What is equal, and what is not."""
    results, samples, prompts, aggregate = replayed
    rows, ours = rows_of(case), FakeJudge(case.replies or ("",))
    report, units = score(rows, ours)
    values = {(each.metric, each.group): each.value for each in report.scores}
    scores = []
    for metric, (name, group, factor) in case.scores.items():
        their = factor * float(results[f"{metric},none"])
        our = values[name, group]
        apart = TOLERANCE if case.round_to is None else factor * 10**-case.round_to
        equal = our is not None and math.isclose(our, their, rel_tol=TOLERANCE, abs_tol=apart)
        scores.append({"metric": metric, "lmms": their, "ours": our, "equal": equal})
    made = [case.protocol.prompt(item, [Shown()]) for item in case.items]
    other = [i for i, prompt in enumerate(made) if prompt != prompts[i]]
    return {
        "task": case.task,
        "protocol": f"{type(case.protocol).__module__.split('.')[-1]}.{type(case.protocol).__name__}",
        "answers": len(case.texts),
        "unparsed": report.unparsed,
        "judged": len(theirs_asked),
        "judge_prompts_equal": theirs_asked == (ours.asked if case.replies else set()),
        "judge_prompts": {"shared": len(theirs_asked & ours.asked), "lmms": len(theirs_asked), "ours": len(ours.asked)},
        "prompts_equal": not other,
        "prompt_example": [made[other[0]], prompts[other[0]]] if other else None,
        "scores": scores,
        "answers_apart": _apart(case, units, samples, aggregate) if case.one_by_one else [],
    }


def _apart(case: Case, units: Sequence, samples: list, aggregate: Callable) -> list[dict]:
    """Answers that are worth something else on either side; None: nothing, not even in the number of answers."""
    (metric, (name, _group, factor)), *_ = case.scores.items()
    by_doc = {sample["doc_id"]: sample[metric] for sample in samples}
    found = []
    for index, unit in enumerate(units):
        mark = unit.mark.values.get(name)
        our = None if mark is None else case.protocol.metrics[name] * mark
        their = _alone(aggregate, by_doc[index], factor)
        if not math.isclose(our or 0.0, their or 0.0, rel_tol=1e-4, abs_tol=1e-3):
            found.append({"text": case.texts[index], "answer": case.items[index].answer, "ours": our, "lmms": their})
    return found


def _alone(aggregate: Callable, sample: Any, factor: float) -> float | None:
    """lmms-eval's score of one answer."""
    arguments = [None] if "args" in inspect.signature(aggregate).parameters else []
    with redirect_stdout(io.StringIO()):
        try:
            return factor * float(aggregate([copy.deepcopy(sample)], *arguments))
        except ZeroDivisionError:
            return None
