"""Open-ended questions about videos with short references: ActivityNet-QA, MSVD-QA, MSRVTT-QA and TGIF-QA.

(Yu et al. 2019, arXiv:1906.02467; Xu et al. 2017; Jang et al. 2017, arXiv:1704.04497.) Since
Video-ChatGPT (Maaz et al. 2024, arXiv:2306.05424) they are asked without training on them and judged by another model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ppl.evaluation.annotations import find_video, read_json_list
from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.items import Item, Medium, Shown
from ppl.evaluation.judge import Request
from ppl.evaluation.judge_prompts import verdict_request
from ppl.evaluation.judge_replies import read_fields, read_verdict
from ppl.evaluation.protocol import Frames, Mark, Protocol
from ppl.evaluation.rows import Row
from ppl.evaluation.text_metrics import exact_match, token_f1, wups
from ppl.evaluation.wordnet import wordnet_at_hand

_ANSWER_TYPES = ("motion", "spatial relation", "temporal relation", "yes/no", "color", "object", "location", "number")
"""ActivityNet-QA's, by their numbers; 8 is any other (MILVLG/activitynet-qa, ``evaluation/eval.py``)."""
_METRICS = {"accuracy": 100.0, "score": 1.0, "exact_match": 100.0, "token_f1": 100.0}
_WUPS = {"wups_0": 0.0, "wups_0.9": 0.9}
_QUESTION_WORDS = ("what", "who", "how", "when", "where")


class OpenEnded(Benchmark):
    """One of these benchmarks, as Video-ChatGPT, Video-LLaVA or PPLLaVA distribute it.

    Args:
        root: Folder of the files.
        dataset: Which it is.
        videos: Folder of the videos, below the root: files, or folders of frames.
        questions: JSON list with ``video_name`` (or ``video``, or ``video_id``), ``question`` and ``question_id`` (or
            ``id``).
        answers: JSON list with ``answer`` and ``question_id``, by which they are matched, or without it in the order
            of the questions; null: the questions' file has ``answer`` itself.
        prefix: Stands before a video's name in that of its file: ``v_`` for ActivityNet-QA.
    """

    def __init__(
        self,
        root: str,
        dataset: Literal["activitynetqa", "msvdqa", "msrvttqa", "tgifqa"],
        videos: str = "videos",
        questions: str = "test_q.json",
        answers: str | None = "test_a.json",
        prefix: str = "",
    ) -> None:
        self.root = root
        self.dataset = dataset
        self.videos = videos
        self.questions = questions
        self.answers = answers
        self.prefix = prefix

    @property
    def name(self) -> str:
        """Its name."""
        return self.dataset

    def items(self) -> list[Item]:
        """Read the questions."""
        rows = read_json_list(Path(self.root) / self.questions, f"the questions of {self.name}", ("question",))
        answers = self._answers(rows)
        ids = [str(row.get("question_id", row.get("id", index))) for index, row in enumerate(rows)]
        seen: Counter[str] = Counter()
        items = []
        for row, answer, name in zip(rows, answers, ids, strict=True):
            unique = f"{name}_{seen[name]}" if seen[name] else name
            seen[name] += 1
            items.append(self._item(row, answer, unique))
        return items

    def _answers(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        if self.answers is None:
            return [*rows]
        file = Path(self.root) / self.answers
        answers = read_json_list(file, f"the answers of {self.name}", ("answer",))
        by_id = {str(answer["question_id"]): answer for answer in answers if "question_id" in answer}
        ids = [str(row.get("question_id")) for row in rows]
        if len(by_id) == len(answers) and set(ids) <= set(by_id):
            return [by_id[name] for name in ids]
        if by_id or len(answers) != len(rows):
            msg = (
                f"got {file} with {len(answers)} answers to {len(rows)} questions, expected one for each question_id: "
                "are both of one split?"
            )
            raise ValueError(msg)
        return [*answers]

    def _item(self, row: Mapping[str, Any], answer: Mapping[str, Any], name: str) -> Item:
        video = str(row.get("video_name", row.get("video", row.get("video_id"))))
        kind = answer.get("type")
        word = row["question"].split(" ")[0].lower()
        if kind is None:
            group = word if word in _QUESTION_WORDS else "other"
        else:
            group = dict(enumerate(_ANSWER_TYPES)).get(int(kind), "other")
        return Item(
            id=name,
            media=(Medium("video", find_video(Path(self.root) / self.videos, f"{self.prefix}{video}")),),
            question=row["question"],
            answer=str(answer["answer"]),
            cluster=video,
            groups={"type": group},
        )


class _JudgedProtocol(Protocol):
    metrics = _METRICS | dict.fromkeys(_WUPS, 100.0)
    whole_scores: bool

    def requests(self, rows: tuple[Row, ...]) -> tuple[Request, ...]:
        """Whether the answer is right, and how good it is."""
        return (verdict_request(rows[0].question, rows[0].answer or "", self.said(rows[0])),)

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The judge's verdict, and beside it how far the words agree: needs no judge; WUPS needs WordNet."""
        said, answer, reply = self.said(rows[0]), rows[0].answer or "", replies[0]
        verdict = None if reply is None else self.verdict(reply)
        score = None if verdict is None else verdict[1]
        values: dict[str, float | None] = {
            "accuracy": None if verdict is None else float(verdict[0]),
            "score": float(int(score)) if score is not None and self.whole_scores else score,
            "exact_match": exact_match(said, answer),
            "token_f1": token_f1(said, answer),
        }
        if (wordnet := wordnet_at_hand()) is not None:
            values |= {name: wups(said, answer, threshold, wordnet) for name, threshold in _WUPS.items()}
        unread = reply is not None and verdict is None
        return Mark(values, None if unread else said)

    def said(self, row: Row) -> str:
        """The answer, as it is judged."""
        return row.text.strip()

    def verdict(self, reply: str) -> tuple[bool, float] | None:
        """What a judge replied; None: it could not be read."""
        return read_verdict(reply)


class Paper(_JudgedProtocol):
    """As PPLLaVA's code asks and marks MSVD-QA, MSRVTT-QA and ActivityNet-QA.

    Args:
        whole_scores: Cut the decimals off a judge's score, as the code does (4.8 is 4); otherwise they count.
        missing_score: What a verdict without a score counts for, 3 in the code; null: it cannot be read.
    """

    name = "paper"
    version = "1"
    source = "farewellthree/PPLLaVA d5766c8: ppllava/test/qabench, gpt_evaluation/evaluate_activitynet_qa.py"
    max_new_tokens = 200
    answer_prefix = "Answer: In the video,"

    def __init__(self, whole_scores: bool = True, missing_score: float | None = 3.0) -> None:
        self.whole_scores = whole_scores
        self.missing_score = missing_score

    def frames(self, item: Item) -> Frames:
        """32."""
        return Frames(32, "segments")

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Instruction and question."""
        return (
            "The input consists of a sequence of key frames from a video. Answer the question concisely first and "
            "followed by significant events, characters, or objects that appear throughout the frames. Question: "
            f"{item.question}"
        )

    def verdict(self, reply: str) -> tuple[bool, float] | None:
        """What a judge replied."""
        fields = read_fields(reply)
        if fields is not None and "score" not in fields and self.missing_score is not None:
            return read_verdict(str({**fields, "score": self.missing_score}))
        return read_verdict(reply)


class Official(_JudgedProtocol):
    """As Video-ChatGPT and Video-LLaVA ask and mark them: the bare question.

    Args:
        num_frames: Of each video; 8 for Video-LLaVA, 100 for Video-ChatGPT.
        whole_scores: Cut the decimals off a judge's score, as their code does; otherwise they count.
    """

    name = "official"
    version = "1"
    source = (
        "mbzuai-oryx/Video-ChatGPT 659e04b: quantitative_evaluation/evaluate_activitynet_qa.py; "
        "PKU-YuanGroup/Video-LLaVA 984e65b: videollava/eval/video/run_inference_video_qa.py"
    )
    max_new_tokens = 1024

    def __init__(self, num_frames: int = 8, whole_scores: bool = True) -> None:
        self.num_frames = num_frames
        self.whole_scores = whole_scores

    def frames(self, item: Item) -> Frames:
        """As many as asked for, ends included."""
        return Frames(self.num_frames, "linspace")

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """The question."""
        return item.question


class Lmms(_JudgedProtocol):
    """As lmms-eval asks and marks ActivityNet-QA; it has none of the others.

    A reply that it cannot read ends its run; here it is counted, and left out.

    Args:
        num_frames: Of each video; lmms-eval leaves it to the model.
        whole_scores: Cut the decimals off a judge's score, as it does; otherwise they count.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/activitynetqa"
    max_new_tokens = 64

    def __init__(self, num_frames: int = 32, whole_scores: bool = True) -> None:
        self.num_frames = num_frames
        self.whole_scores = whole_scores

    def frames(self, item: Item) -> Frames:
        """As many as asked for, ends included."""
        return Frames(self.num_frames, "linspace")

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """The question, written as a sentence, and an instruction."""
        return f"{item.question.capitalize()}? Answer the question using a single word or phrase."

    def said(self, row: Row) -> str:
        """The answer as it is."""
        return row.text
