"""``ppl serve``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ppl.commands.media_arguments import add_model_arguments

_DESCRIPTION = """\
Answer questions about videos and images over HTTP, as OpenAI's chat completions do: any client of theirs works.

  ppl serve --checkpoint exported/ &
  curl http://127.0.0.1:8000/v1/models

  from pathlib import Path
  from openai import OpenAI
  client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
  clip = client.files.create(file=Path("clip.mp4"), purpose="user_data")
  parts = [{"type": "video_url", "video_url": {"url": clip.id}}, {"type": "text", "text": "Who opens the door?"}]
  client.chat.completions.create(model="exported", messages=[{"role": "user", "content": parts}])

Further fields, through extra_body: pooler, token_budget (visual tokens of a medium), policy (which questions guide
pooling), num_frames, top_k, repetition_penalty. docs/serve.md tells all."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    serve = commands.add_parser(
        "serve",
        help="answer over HTTP, for OpenAI's clients: ppl serve --checkpoint exported/",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(serve)
    add_serve_arguments(serve)
    serve.set_defaults(run=_run)


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen, what to offer, and how much of it."""
    place = parser.add_argument_group("where, and to whom")
    place.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0: every network (default: %(default)s, this machine)"
    )
    place.add_argument("--port", type=int, default=8000, help="0: any free one (default: %(default)s)")
    place.add_argument(
        "--api-key-env",
        metavar="VARIABLE",
        help="the environment variable that holds the key clients have to send (default: PPL_API_KEY, if that is set); "
        "none with a page, as browsers send none",
    )
    place.add_argument(
        "--drain-seconds", type=float, default=30.0, help="for answers, at SIGTERM (default: %(default)g)"
    )
    offer = parser.add_argument_group("what")
    offer.add_argument("--name", help="what clients call the model (default: the checkpoint's name)")
    offer.add_argument(
        "--pooler",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="offer another way to pool, such as average=recipes/parts/poolers/average.yaml; may be given repeatedly "
        "(default: all of ppl's that fit the model)",
    )
    offer.add_argument("--media-root", type=Path, metavar="FOLDER", help="let file:// URLs name files in there")
    offer.add_argument("--allow-remote", action="store_true", help="fetch http(s):// URLs, from public addresses only")
    _add_limits(parser.add_argument_group("how much, of a request"), _OF_A_REQUEST)
    _add_limits(parser.add_argument_group("how much, in all"), _IN_ALL)


_OF_A_REQUEST = {
    "--max-body-mib": (64.0, "size of a request, or of a file that is fetched"),
    "--max-media": (8, "images and videos"),
    "--max-megapixels": (34.0, "of an image or a frame"),
    "--max-video-seconds": (1800.0, "length of a video"),
    "--max-frames": (256, "frames sampled from its videos, and images"),
    "--max-tokens": (1024, "of the answer"),
    "--max-seconds": (120.0, "until the answer has ended, waiting included"),
}

_IN_ALL = {
    "--max-waiting": (64, "questions in line; further ones get status 429"),
    "--max-batch": (8, "questions answered together"),
    "--keep-gib": (2.0, "memory for encoded media, about which a further question costs no vision tower"),
    "--keep-minutes": (15.0, "how long one is kept after its last question"),
    "--uploads-gib": (4.0, "disk space for clients' media"),
    "--upload-minutes": (60.0, "how long an upload is kept"),
}


def _add_limits(group: argparse._ArgumentGroup, limits: dict[str, tuple[int | float, str]]) -> None:
    for option, (default, text) in limits.items():
        group.add_argument(
            option, type=type(default), default=default, metavar="N", help=f"{text} (default: {default:g})"
        )


def _run(options: argparse.Namespace) -> None:
    from ppl.serving.http.launch import run_serve

    run_serve(options)
