"""``ppl demo``."""

from __future__ import annotations

import argparse

from ppl.commands.media_arguments import add_model_arguments
from ppl.commands.serve import add_serve_arguments

_DESCRIPTION = """\
Open a web page to ask about videos and images: drop a clip, see the sampled frames, ask, and see the relevance laid
over them; switch the pooler and the token budget, and compare two side by side.

It is the server of `ppl serve`, with the page at its root. Without --checkpoint it takes the embedded model, which is
trained on the first start: a few minutes on two cores. docs/page.md tells more."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    demo = commands.add_parser(
        "demo",
        help="open a web page to ask about clips and see what the model looked at",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--no-browser", action="store_true", help="only serve the page, at the address that is printed")
    add_model_arguments(demo)
    add_serve_arguments(demo)
    demo.set_defaults(run=_run, port=7860, embedded=demo.get_default("checkpoint"))


def _run(options: argparse.Namespace) -> None:
    from ppl.serving.page.launch import run_demo

    run_demo(options)
