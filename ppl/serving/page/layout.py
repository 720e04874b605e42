"""Where everything is on the page, and what calls what."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from ppl.serving.page.callbacks import NUM_SUGGESTIONS, PLAIN, Callbacks
from ppl.serving.page.examples import Example
from ppl.serving.page.rendering import conversation_html, frames_html, jpeg_url

STYLE = Path(__file__).parent / "style.css"
_PRIVATE = "private"
"""No event of the page is an endpoint for programs: they have the server's own."""
_DOWNLOAD = """(file) => {
    if (!file) return;
    const link = document.createElement("a");
    link.href = file.url;
    link.download = file.name;
    link.click();
}"""


class Layout:
    """The page.

    Args:
        callbacks: What it calls.
        examples: Clips to pick.
    """

    def __init__(self, callbacks: Callbacks, examples: Sequence[Example]) -> None:
        self.callbacks = callbacks
        self.examples = examples

    def build(self) -> gr.Blocks:
        """Make the page."""
        title = f"ppl: {self.callbacks.settings.name}"
        with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(60, 600)) as blocks:
            self.visit = gr.State(None)
            gr.HTML(f"<h1>Ask a video</h1><p>{escape(self.callbacks.model_in_words())}</p>", elem_id="head")
            with gr.Row(elem_id="columns"):
                with gr.Column(scale=1, min_width=320):
                    self._add_clip()
                with gr.Column(scale=1, min_width=320):
                    self._add_questions()
                    self._add_ways()
                    self._add_downloads()
            self._connect()
        return blocks

    def style(self) -> str:
        """CSS, with a picture for each example."""
        pictures = (
            f'#example-{number} {{ background-image: url("{jpeg_url(example.picture)}"); }}'
            for number, example in enumerate(self.examples, 1)
        )
        return "\n".join([STYLE.read_text(encoding="utf-8"), *pictures])

    def _add_clip(self) -> None:
        self.upload = gr.File(label="Drop a video or an image here, or choose one", height=150, elem_id="upload")
        with gr.Row(elem_id="examples"):
            self.picks = [
                gr.Button(f"Example {number}", elem_id=f"example-{number}", min_width=70, size="sm")
                for number in range(1, len(self.examples) + 1)
            ]
        self.frames = gr.HTML(frames_html(None, None), elem_id="frames", js_on_load=None)
        self.picker = gr.Radio(
            [("the frames as they are", PLAIN)],
            value=PLAIN,
            label="Show relevance to",
            visible=False,
            interactive=True,
            elem_id="picker",
        )

    def _add_questions(self) -> None:
        log = '<div role="log" aria-live="polite" aria-label="Conversation">${value}</div>'
        self.conversation = gr.HTML(
            conversation_html([]),
            html_template=log,
            js_on_load=None,
            autoscroll=True,
            max_height=520,
            elem_id="conversation",
        )
        self.problem = gr.HTML("", html_template='<div role="alert">${value}</div>', js_on_load=None, elem_id="problem")
        with gr.Row(elem_id="suggestions"):
            self.suggestions = [gr.Button(visible=False, size="sm", min_width=120) for _ in range(NUM_SUGGESTIONS)]
        self.question = gr.Textbox(
            label="Question", placeholder="Ask about the clip; Enter sends", lines=1, max_lines=1, elem_id="question"
        )
        with gr.Row(elem_id="actions"):
            self.send = gr.Button("Ask", variant="primary", min_width=80, elem_id="send")
            self.again = gr.Button("Ask again", min_width=80, elem_id="again")
            self.stop = gr.Button("Stop", min_width=80, elem_id="stop")
            self.restart = gr.Button("Start over", min_width=80, elem_id="restart")

    def _add_ways(self) -> None:
        self.ways = [*self._way("Pooler", "Token budget", "one", "")]
        self.compares = gr.Checkbox(label="Compare with another, side by side", elem_id="compare")
        with gr.Column(visible=False) as self.other:
            first = next(iter(self.callbacks.engine.poolers), "")
            others = [*self._way("Other pooler", "Other token budget", "other", first)]
        self.ways += [self.compares, *others]
        counts = '<p role="status">${value}</p>'
        self.counts = gr.HTML("", html_template=counts, js_on_load=None, elem_id="counts")

    def _way(self, pooler: str, budget: str, name: str, chosen: str) -> tuple[gr.Dropdown, gr.Slider]:
        choices = [("the model's own", ""), *((each, each) for each in self.callbacks.engine.poolers)]
        told = f"{budget} (0: the pooler's own)"
        with gr.Row():
            return (
                gr.Dropdown(choices, value=chosen, label=pooler, filterable=False, elem_id=f"pooler-{name}"),
                gr.Slider(0, 1024, 0, step=1, label=told, min_width=200, elem_id=f"budget-{name}"),
            )

    def _add_downloads(self) -> None:
        self.file = gr.JSON(visible=False)
        names = {"heatmap": "Heat map (PNG)", "markdown": "Transcript (Markdown)", "json": "Transcript (JSON)"}
        with gr.Row(elem_id="downloads"):
            self.downloads = {
                name: gr.Button(text, size="sm", min_width=100, elem_id=f"get-{name}") for name, text in names.items()
            }

    def _connect(self) -> None:
        shown = [self.visit, self.frames, self.picker, self.conversation, self.problem, self.question]
        self._connect_clips(shown)
        calls = self.callbacks
        asking: dict[str, Any] = {
            "outputs": shown,
            "show_progress": "hidden",
            "api_visibility": _PRIVATE,
        }
        given = [self.visit, *self.ways]
        gr.on([self.question.submit, self.send.click], calls.ask, [self.question, *given], **asking)
        self.again.click(calls.ask_again, given, **asking)
        for suggestion in self.suggestions:
            suggestion.click(calls.ask, [suggestion, *given], **asking)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": _PRIVATE}
        self.stop.click(calls.stop, self.visit, None, **quiet)
        self.restart.click(calls.start_again, self.visit, shown, **quiet)
        self.picker.input(calls.pick, [self.visit, self.picker], self.frames, **quiet)
        self.compares.change(None, self.compares, self.other, js="(on) => ({__type__: 'update', visible: on})", **quiet)
        gr.on([way.change for way in self.ways], calls.count, given, self.counts, trigger_mode="always_last", **quiet)
        for name, button in self.downloads.items():
            inputs = [self.visit, self.picker] if name == "heatmap" else [self.visit]
            offered = button.click(getattr(calls, name), inputs, [self.file, self.problem], **quiet)
            offered.success(None, self.file, None, js=_DOWNLOAD, **quiet)

    def _connect_clips(self, shown: list[Component]) -> None:
        calls = self.callbacks
        opening: dict[str, Any] = {"show_progress_on": self.frames, "api_visibility": _PRIVATE}
        opened = [self.upload.upload(calls.open, [self.upload, self.visit], shown, **opening)]
        opened[0].then(lambda: None, None, self.upload, show_progress="hidden", api_visibility=_PRIVATE)
        for pick, example in zip(self.picks, self.examples, strict=True):
            opened.append(pick.click(partial(calls.open, str(example.path)), self.visit, shown, **opening))
        for number, event in enumerate(opened):
            questions = self.examples[number - 1].questions if number else ()
            event.then(
                partial(calls.after_opening, questions),
                [self.visit, *self.ways],
                [self.ways[1], self.ways[4], self.counts, *self.suggestions],
                show_progress="hidden",
                api_visibility=_PRIVATE,
            )
