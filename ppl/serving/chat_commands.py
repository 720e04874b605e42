"""What a conversation's user can do beside asking: lines that begin with a slash."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ppl.serving.contact_sheet import contact_sheet, stacked
from ppl.serving.dialogue import Dialogue
from ppl.serving.encoded_media import EncodedMedium, medium_at
from ppl.serving.frame_relevance import frame_relevance
from ppl.serving.overlays import heatmap_strip
from ppl.serving.pooler_files import pooler_file
from ppl.serving.session import relevance_of
from ppl.serving.transcript import write_transcript
from ppl.serving.variants import read_pooler


class Command(NamedTuple):
    """What follows a slash."""

    name: str
    arguments: str
    """As they are told to the user; optional ones are in brackets."""
    does: str
    run: Callable[..., str]
    """Called with the dialogue and the arguments as text; returns what is to be told."""

    @property
    def usage(self) -> str:
        """How it is written."""
        return f"/{self.name} {self.arguments}".rstrip()

    def takes(self, number: int) -> bool:
        """Whether so many arguments may follow it."""
        words = self.arguments.split()
        return sum(not word.startswith("[") for word in words) <= number <= len(words)


def run_command(dialogue: Dialogue, line: str) -> str:
    """Do what a line asks for; returns what is to be told.

    Raises:
        ValueError: There is no such command, it takes other arguments, or they make no sense.
        OSError: A file cannot be read or written.
    """
    try:
        word, *arguments = shlex.split(line)
    except ValueError as error:  # shlex's own
        msg = f'got {line} with a quote that does not end ({error}); write \\\' or put the whole name in ""'
        raise ValueError(msg) from error
    commands = {command.name: command for command in COMMANDS}
    command = commands.get(word.removeprefix("/"))
    if command is None:
        [nearest] = difflib.get_close_matches(word.removeprefix("/"), commands, n=1, cutoff=0)
        msg = f"got {word}, which is no command; perhaps {commands[nearest].usage}? /help lists all"
        raise ValueError(msg)
    if not command.takes(len(arguments)):
        got = f"got {len(arguments)} argument(s) for /{command.name}"
        msg = f"{got}, expected {command.usage}; put a name with blanks in quotes"
        raise ValueError(msg)
    return command.run(dialogue, *arguments)


def _help(dialogue: Dialogue) -> str:
    del dialogue
    width = max(len(command.usage) for command in COMMANDS)
    rest = {"//…": "a question that begins with a slash", "an empty line": "ends the conversation, as does Ctrl-D"}
    told = [(command.usage, command.does) for command in COMMANDS] + list(rest.items())
    return "\n".join(f"{usage:{width}}  {does}" for usage, does in told)


def _add(dialogue: Dialogue, path: str, start: str | None = None, end: str | None = None) -> str:
    first, last = (None if text is None else _seconds(text) for text in (start, end))
    session = dialogue.session
    before = session.num_visual_tokens
    medium = session.add(medium_at(Path(path).expanduser(), first, last))
    return f"{medium.ref.kind} of {len(medium.frames)} frame(s); {_tokens(before, session.num_visual_tokens)}"


def _frames(dialogue: Dialogue, file: str = "frames.png") -> str:
    path = _picture_path(file)
    media = _media(dialogue)
    told = [f"{medium.ref.path}: {', '.join(_captions(medium))}" for medium in media]
    _save(stacked([contact_sheet(medium.frames, _captions(medium)) for medium in media]), path)
    return "\n".join([*told, f"wrote {path}"])


def _heatmap(dialogue: Dialogue, file: str = "heatmap.png") -> str:
    path = _picture_path(file)
    media = _media(dialogue)
    if not dialogue.rows:
        msg = "got no answered question yet, expected one to draw; ask first"
        raise ValueError(msg)
    question, session = dialogue.rows[-1]["question"], dialogue.session
    strips = []
    for medium in media:
        relevance = relevance_of(session.model, medium, question)
        over_frames = frame_relevance(relevance, medium.info, session.processor.inputs)
        strips.append(heatmap_strip(medium.frames, over_frames, question))
    _save(stacked(strips), path)
    return f"wrote {path}: {question}"


def _pooler(dialogue: Dialogue, name: str) -> str:
    before = dialogue.session.num_visual_tokens
    dialogue.pool(read_pooler(pooler_file(name)), name)
    return _tokens(before, dialogue.session.num_visual_tokens)


def _budget(dialogue: Dialogue, tokens: str) -> str:
    if not tokens.isdecimal() and tokens != "off":
        msg = f"got /budget {tokens}, expected the most visual tokens of a medium, or off"
        raise ValueError(msg)
    before = dialogue.session.num_visual_tokens
    dialogue.limit(None if tokens == "off" else int(tokens))
    return _tokens(before, dialogue.session.num_visual_tokens)


def _save_transcript(dialogue: Dialogue, file: str) -> str:
    path = Path(file).expanduser()
    write_transcript(dialogue, path)
    return f"wrote {path}: {len(dialogue.rows)} answer(s)"


def _undo(dialogue: Dialogue) -> str:
    return f"forgot {dialogue.undo()!r} and its answer"


def _reset(dialogue: Dialogue) -> str:
    media = dialogue.session.media
    dialogue.begin([], [medium.ref for medium in media])
    return f"forgot all that was said; {len(media)} video(s) or image(s) stay"


COMMANDS = (
    Command("add", "PATH [START] [END]", "ask about a further video or image, or a clip in seconds", _add),
    Command("frames", "[FILE]", "list the sampled frames, and draw them (frames.png)", _frames),
    Command("heatmap", "[FILE]", "draw what the last question finds in the frames (heatmap.png)", _heatmap),
    Command("pooler", "NAME", "pool otherwise: average, weighted, …, or a part of a recipe", _pooler),
    Command("budget", "N", "keep each medium within N visual tokens; off: as the pooler has it", _budget),
    Command("save", "FILE", "write the conversation to FILE, .json or .md", _save_transcript),
    Command("undo", "", "forget the last question and its answer", _undo),
    Command("reset", "", "forget all that was said; videos and images stay", _reset),
    Command("help", "", "list the commands", _help),
)


def _media(dialogue: Dialogue) -> Sequence[EncodedMedium]:
    if not dialogue.session.media:
        msg = "got a conversation without a video or image, expected one; /add PATH first"
        raise ValueError(msg)
    return dialogue.session.media


def _captions(medium: EncodedMedium) -> list[str]:
    times = [f"{seconds:.2f} s" for seconds in medium.decoded.times]
    return times or [f"frame {number}" for number in range(1, len(medium.frames) + 1)]


def _tokens(before: int, after: int) -> str:
    return f"visual tokens: {before} -> {after}"


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        msg = f"got {text!r} as a time, expected seconds: /add clip.mp4 2.5 10"
        raise ValueError(msg) from error


def _picture_path(file: str) -> Path:
    path = Path(file).expanduser()
    if path.suffix.lower() != ".png":
        msg = f"got {path} to draw to, expected a name that ends in .png"
        raise ValueError(msg)
    return path


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, format="PNG")
