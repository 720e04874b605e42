"""From command-line options to a session: load the checkpoint, open the medium."""

from __future__ import annotations

import argparse

from ppl.checkpoints import load
from ppl.datamodules.processing import Processor
from ppl.serving.session import ChatSession


def open_session(options: argparse.Namespace) -> ChatSession:
    """Load ``options.checkpoint`` and encode ``options.media`` as in training, unless told otherwise."""
    module = load(options.checkpoint)
    conversation = module.conversation | ({"num_frames": options.num_frames} if options.num_frames else {})
    return ChatSession(
        module.model, Processor(module.input_spec, **conversation), options.media, options.start, options.end
    )
