"""``ppl chat``: one answer, a conversation in the terminal or over a pipe, or a file of questions."""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path

import torch

from ppl.modules.generation import Generation
from ppl.serving import out_of_memory
from ppl.serving.chat_batch import answer_rows
from ppl.serving.chat_output import ChatOutput, told
from ppl.serving.chat_terminal import converse, history_file
from ppl.serving.dialogue import Dialogue
from ppl.serving.encoded_media import medium_at
from ppl.serving.launch import open_session
from ppl.serving.pooler_files import pooler_file
from ppl.serving.question_rows import read_questions
from ppl.serving.variants import read_pooler

_STOPPED = 128 + 2
"""Exit status of what Ctrl-C ends: by the shell's rule 128 and the signal's number."""


def run_chat(options: argparse.Namespace) -> None:
    """Answer ``options.question``, or ``options.questions``, or the lines of the standard input.

    Raises:
        ValueError: The question is empty, options do not go together, or there is not enough memory.
        SystemExit: With status 1 if a question has no answer, with 130 after Ctrl-C.
    """
    _check(options)
    output = ChatOutput(as_json=options.json)
    try:
        with out_of_memory.told():
            num_failed = _chat(options, output)
    except KeyboardInterrupt:
        output.say("stopped" + ("; the same command goes on" if options.output else ""))
        sys.exit(_STOPPED)
    except BrokenPipeError:  # whoever reads the answers has enough of them, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if num_failed:
        sys.exit(1)


def _check(options: argparse.Namespace) -> None:
    msg = ""
    if options.question is not None and not options.question.strip():
        msg = "got an empty question; write one, or leave it out for a conversation"
    elif options.question is not None and os.path.isfile(options.question):  # noqa: PTH113  Path stumbles over long ones
        msg = f"got the file {options.question} as a question, expected words; for a further video write --add FILE"
    elif options.questions is not None and options.question is not None:
        msg = "got a question beside --questions, expected one of them"
    elif options.questions is None and (options.output or options.media_root):
        msg = "got --output or --media-root without --questions, expected a file of questions; leave them out"
    elif options.output and Path(options.output).resolve() == Path(str(options.questions)).resolve():
        msg = f"got {options.output} for answers and for questions, expected two files"
    if msg:
        raise ValueError(msg)


def _chat(options: argparse.Namespace, output: ChatOutput) -> int:
    """Hold the conversation; returns how many questions have no answer."""
    generation = _generation(options)
    rows = None if options.questions is None else list(read_questions(options.questions, options.media_root))
    with output.console.status("loading the model and encoding the video"):
        dialogue = _open(options, generation)
    session = dialogue.session
    if rows is not None:
        refs, file = [medium.ref for medium in session.media], Path(options.output) if options.output else None
        return answer_rows(dialogue, rows, output, file, refs)
    num_frames = sum(len(medium.frames) for medium in session.media)
    output.say(f"{num_frames} frame(s), {session.num_visual_tokens} visual tokens")
    if options.question is not None:
        output.answer(dialogue, options.question)
    elif sys.stdin.isatty():
        converse(dialogue, output, history_file() if options.history else None)
    else:
        return _answer_lines(dialogue, output)
    return 0


def _generation(options: argparse.Namespace) -> Generation:
    return Generation(
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        num_beams=options.num_beams,
        repetition_penalty=options.repetition_penalty,
        seed=options.seed,
        stop_strings=tuple(options.stop),
    )


def _open(options: argparse.Namespace, generation: Generation) -> Dialogue:
    name: str | None = options.pooler
    pooler = None if name is None else read_pooler(pooler_file(name))
    session = open_session(options)
    session.policy = options.policy
    for path in options.add:
        session.add(medium_at(path))
    dialogue = Dialogue(session, generation, options.checkpoint)
    if name is not None and pooler is not None:
        dialogue.pool(pooler, name)
    if options.budget is not None:
        dialogue.limit(options.budget)
    return dialogue


def _answer_lines(dialogue: Dialogue, output: ChatOutput) -> int:
    """Answer each line of the standard input, one conversation; returns how many have no answer."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no text are then a bad question, one of many
    num_failed = 0
    for question in filter(None, map(str.strip, sys.stdin)):
        try:
            output.answer(dialogue, question)
        except (ValueError, torch.OutOfMemoryError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                dialogue.survive(error)
            num_failed += 1
            output.refuse(error)
            if output.as_json:
                output.row({"question": question, "error": told(error)})
    return num_failed
