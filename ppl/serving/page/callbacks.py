"""What happens when a visitor does something: from the page's values to a visit, and back to the page's values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from ppl.serving.engine import Engine
from ppl.serving.http.settings import Settings
from ppl.serving.http.store import Store
from ppl.serving.page.exchanges import Clip, Exchange, Way
from ppl.serving.page.rendering import as_data_url, conversation_html, frames_html
from ppl.serving.page.transcript import as_heatmap, as_json, as_markdown, way_in_words
from ppl.serving.page.visit import Visit

PLAIN = -1
"""The choice of frames without relevance."""
NUM_SUGGESTIONS = 3
"""Questions that are suggested, at most."""
_LABEL = 70
"""Letters of a question where one is picked."""


class Shown(NamedTuple):
    """New values of the page, in the order of its outputs; those that stay are left to `gr.skip`."""

    visit: Visit
    frames: Any = gr.skip()
    picker: Any = gr.skip()
    conversation: Any = gr.skip()
    problem: Any = ""
    question: Any = gr.skip()


class Callbacks:
    """Everything that the page calls, for all visitors.

    Args:
        engine: Answers.
        store: Keeps their clips.
        settings: Of the server.
    """

    def __init__(self, engine: Engine, store: Store, settings: Settings) -> None:
        self.engine = engine
        self.store = store
        self.settings = settings

    def open(self, path: str | None, visit: Visit | None) -> Shown:
        """Look at another clip."""
        visit = self._visit(visit)
        if path is None:  # the page's own doing, after each clip
            return Shown(visit)
        try:
            visit.open(Path(path))
        except Exception as error:  # worded for the visitor, or logged
            return Shown(visit, problem=_alert(visit.explain(error)))
        return Shown(visit, frames_html(visit.clip, None), _picker(visit, PLAIN), conversation_html([]))

    def ask(self, text: str, visit: Visit | None, *values: Any) -> Iterator[Shown]:  # noqa: ANN401  as `ways` takes them
        """Ask, under each way to pool, and show the answers as they come."""
        visit = self._visit(visit)
        is_new = True
        try:
            for exchange in visit.ask(text, ways(*values)):
                told = conversation_html(visit.exchanges)
                if is_new:
                    frames = frames_html(visit.clip, exchange)
                    yield Shown(visit, frames, _picker(visit, len(visit.exchanges) - 1), told, question="")
                else:
                    yield Shown(visit, conversation=told)
                is_new = False
        except Exception as error:  # worded for the visitor, or logged
            yield Shown(visit, problem=_alert(visit.explain(error)))

    def ask_again(self, visit: Visit | None, *values: Any) -> Iterator[Shown]:  # noqa: ANN401  as `ways` takes them
        """Ask the newest question once more, in place of it: under another way to pool, say."""
        if visit is None or not visit.exchanges:
            yield from self.ask("", visit, *values)
            return
        visit.stop()
        last = visit.exchanges.pop()
        num_others = len(visit.exchanges)
        yield from self.ask(last.question, visit, *values)
        if len(visit.exchanges) == num_others:  # it was not asked, and the page shows why
            visit.exchanges.append(last)

    def start_again(self, visit: Visit | None) -> Shown:
        """Forget the questions, and keep the clip."""
        visit = self._visit(visit)
        visit.start_again()
        return Shown(visit, frames_html(visit.clip, None), _picker(visit, PLAIN), conversation_html([]))

    def stop(self, visit: Visit | None) -> None:
        """End the answers that are on their way."""
        if visit is not None:
            visit.stop()

    def pick(self, visit: Visit | None, number: int | None) -> str:
        """Show the frames, with relevance to one of the questions."""
        return frames_html(None if visit is None else visit.clip, _picked(visit, number))

    def count(self, visit: Visit | None, *values: Any) -> str:  # noqa: ANN401  as `ways` takes them
        """Tell how many tokens each way to pool leaves of the clip, before anything is asked."""
        if visit is None or visit.clip is None:
            return ""
        told = [_tokens(visit, way) for way in ways(*values)]
        return f"{escape('; '.join(told))}, of {_num_patches(visit.clip)} patches."

    def after_opening(self, questions: Sequence[str], visit: Visit | None, *values: Any) -> list[Any]:  # noqa: ANN401
        """Let both budgets go up to all patches of the clip and no further, count again, and suggest questions.

        Args:
            questions: About an example.
            visit: Whose.
            values: As `ways` takes them.
        """
        pooler, budget, compares, other_pooler, other_budget = values
        updates: list[Any] = [gr.skip(), gr.skip()]
        if visit is not None and visit.clip is not None:
            maximum = _num_patches(visit.clip)
            budget, other_budget = min(budget or 0, maximum), min(other_budget or 0, maximum)
            updates = [gr.update(maximum=maximum, value=value) for value in (budget, other_budget)]
        counts = self.count(visit, pooler, budget, compares, other_pooler, other_budget)
        told = [*questions, *[""] * (NUM_SUGGESTIONS - len(questions))]
        suggestions = [gr.update(value=question, visible=bool(question)) for question in told]
        return [*updates, counts, *suggestions]

    def markdown(self, visit: Visit | None) -> tuple[dict[str, str] | None, str]:
        """Offer the conversation as Markdown."""
        visit = self._visit(visit)
        return _offer(visit, "transcript.md", "text/markdown", lambda: as_markdown(visit, self.settings.name))

    def json(self, visit: Visit | None) -> tuple[dict[str, str] | None, str]:
        """Offer the conversation as JSON."""
        visit = self._visit(visit)
        return _offer(visit, "transcript.json", "application/json", lambda: as_json(visit, self.settings.name))

    def heatmap(self, visit: Visit | None, number: int | None) -> tuple[dict[str, str] | None, str]:
        """Offer the picture of the question that is picked."""
        visit = self._visit(visit)
        return _offer(visit, "heatmap.png", "image/png", lambda: as_heatmap(visit, _picked(visit, number)))

    def model_in_words(self) -> str:
        """Name the model, and what it goes by."""
        model = self.engine.model
        pooler = type(model.pooler).__name__
        how = (
            "relevance is how well each place fits the question" if model.aligner else "it has no aligner: no relevance"
        )
        return f"Model {self.settings.name}, its own pooler {pooler}; {how}."

    def _visit(self, visit: Visit | None) -> Visit:
        return visit or Visit(self.engine, self.store, self.settings.caps)


def ways(
    pooler: str, budget: float | int | None, compares: bool, other_pooler: str, other_budget: float | int | None
) -> Sequence[Way]:
    """The ways to pool that are set: one, or two to compare."""
    chosen = [(pooler, budget), (other_pooler, other_budget)][: 1 + compares]
    return [Way(name or None, int(tokens or 0) or None) for name, tokens in chosen]


def _num_patches(clip: Clip) -> int:
    return clip.medium.grid.shape[:3].numel()


def _tokens(visit: Visit, way: Way) -> str:
    try:
        return f"{way_in_words(way)}: {visit.num_tokens(way)} visual tokens"
    except Exception as error:  # worded for the visitor, or logged
        return f"{way_in_words(way)}: {visit.explain(error)}"


def _picker(visit: Visit, number: int) -> Any:  # noqa: ANN401  an update
    """The questions of which relevance can be shown, one of them picked."""
    choices = [("the frames as they are", PLAIN)]
    for index, exchange in enumerate(visit.exchanges):
        text = exchange.question if len(exchange.question) <= _LABEL else f"{exchange.question[:_LABEL]}…"
        choices.append((f"{index + 1}. {text}", index))
    return gr.update(choices=choices, value=number, visible=bool(visit.exchanges))


def _picked(visit: Visit | None, number: int | None) -> Exchange | None:
    if visit is None or number is None or not 0 <= number < len(visit.exchanges):
        return None
    return visit.exchanges[number]


def _offer(visit: Visit, name: str, kind: str, write: Any) -> tuple[dict[str, str] | None, str]:  # noqa: ANN401  a function
    try:
        return {"name": name, "url": as_data_url(write(), kind)}, ""
    except Exception as error:  # worded for the visitor, or logged
        return None, _alert(visit.explain(error))


def _alert(text: str) -> str:
    return f'<p class="problem">{escape(text)}</p>'
