"""``ppl redundancy``: which share of a video's frames a question needs (PPLLaVA v2, section 3.1).

The paper samples frames at 2 a second, compares each with the question and its answer by CLIP-L-336, and calls those
relevant whose similarity exceeds 0.5; their share is the certificate, and the pairs with the shortest are the most
redundant. It does not say what 0.5 is measured on: cosines of CLIP hardly ever reach it. The defaults take the paper
at its word, and a warning says so where nothing is relevant.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from ppl.analysis.clip_encoder import CLIPEncoder
from ppl.analysis.question_pairs import Clip, QuestionPair, question_pairs
from ppl.analysis.redundancy_report import Certificate, draw_histogram, most_redundant, threshold_warning
from ppl.datamodules.annotations import read_records
from ppl.datamodules.video_stream import VideoError
from ppl.datamodules.video_sweep import sweep_video
from ppl.functional.redundancy import certificate, frame_similarity, relative_similarity, relevant_frames


def run_redundancy(options: argparse.Namespace) -> None:
    """Measure every question-answer pair of ``options.annotations`` and write one JSON line for each.

    A video is decoded and embedded once for all its questions. The results are written even if some videos fail.

    Raises:
        ValueError: Options out of range, results that exist already, no pair to measure, or, at the end, videos that
            could not be read.
    """
    _check(options)
    pairs, left_out = question_pairs(read_records(options.annotations, options.media_root))
    console = Console(stderr=True)
    for reason, count in left_out.items():
        _say(console, f"left out: {count} {reason}")
    if not pairs:
        msg = f"{options.annotations}: got no answered question about a single video, expected at least one"
        raise ValueError(msg)
    pretrained = options.pretrained or (None if ":" in options.architecture else "openai")
    encoder = CLIPEncoder(options.architecture, pretrained, options.device, options.batch_size)
    cut = sum(encoder.is_cut(pair.text) for pair in pairs)
    if cut:
        _say(
            console,
            f"cut: {cut} of {len(pairs)} texts are longer than {encoder.context_length} tokens; their end is lost",
        )
    clips = _by_clip(pairs)
    certificates, failed = _measure(clips, encoder, options, console)
    if certificates:
        _report(certificates, options, console)
    if failed:
        msg = (
            f"got {failed} of {len(clips)} videos (or clips of them) that cannot be read, for the reasons above; "
            f"expected none; the {len(certificates)} pairs about the others are in {options.output}; fetch these "
            "videos anew or drop their records"
        )
        raise ValueError(msg)


def measure_clip(
    clip: Clip, pairs: Sequence[QuestionPair], encoder: CLIPEncoder, options: argparse.Namespace
) -> list[Certificate]:
    """Measure all pairs about one clip, which is decoded once and never held in memory as a whole."""
    features, seconds = sweep_video(
        clip.video,
        encoder.embed_frames,
        fps=options.fps,
        batch_size=options.batch_size,
        start=clip.start,
        end=clip.end,
    )
    similarity = frame_similarity(encoder.embed_texts([pair.text for pair in pairs]), torch.cat(features))
    compared = relative_similarity(similarity) if options.relative else similarity
    relevant = relevant_frames(compared, options.threshold)
    counts, shares = relevant.sum(dim=1).tolist(), certificate(relevant).tolist()
    return [
        Certificate(pair, cosines, count, share, share * seconds)
        for pair, cosines, count, share in zip(pairs, similarity, counts, shares, strict=True)
    ]


def _measure(
    clips: dict[Clip, list[QuestionPair]], encoder: CLIPEncoder, options: argparse.Namespace, console: Console
) -> tuple[list[Certificate], int]:
    """Measure clip by clip and write each one's lines; also count the clips that cannot be read."""
    certificates: list[Certificate] = []
    failed = 0
    unfinished = Path(f"{options.output}.part")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with unfinished.open("w", encoding="utf-8") as lines, Progress(*columns, console=console) as progress:
        for clip, pairs in progress.track(clips.items(), description="videos"):
            try:
                found = measure_clip(clip, pairs, encoder, options)
            except (VideoError, OSError) as error:
                _say(console, f"failed: {error}")
                failed += 1
                continue
            lines.writelines(json.dumps(line.as_dict(), ensure_ascii=False) + "\n" for line in found)
            lines.flush()
            certificates += found
    unfinished.replace(options.output)
    return certificates, failed


def _report(certificates: list[Certificate], options: argparse.Namespace, console: Console) -> None:
    warning = threshold_warning(certificates, options.threshold, relative=options.relative)
    if warning:
        _say(console, f"warning: {warning}")
    if options.histogram:
        Path(options.histogram).parent.mkdir(parents=True, exist_ok=True)
        draw_histogram(options.histogram, certificates)
    output = Console()
    if options.top:
        output.print(most_redundant(certificates, options.top))
    shares = torch.tensor([found.share for found in certificates])
    scale = "relative similarity" if options.relative else "cosine"
    _say(
        output,
        f"wrote {options.output}: {len(certificates)} pairs at {options.fps:g} frames a second, relevant above a "
        f"{scale} of {options.threshold:g}; certificates: mean {shares.mean():.3f}, median {shares.median():.3f}, "
        f"{int((shares == 0).sum())} without a relevant frame",
    )


def _check(options: argparse.Namespace) -> None:
    """Refuse what would fail or overwrite after the model is loaded."""
    if not 0 < options.fps < math.inf:
        msg = f"got --fps {options.fps:g}, expected more than 0 frames a second"
        raise ValueError(msg)
    if not -1 <= options.threshold <= 1:
        msg = f"got --threshold {options.threshold:g}, expected a similarity from -1 to 1"
        raise ValueError(msg)
    if options.batch_size < 1 or options.top < 0:
        msg = f"got --batch-size {options.batch_size} and --top {options.top}, expected at least 1 and at least 0"
        raise ValueError(msg)
    if options.histogram and Path(options.histogram).suffix.lower() not in {"", ".png"}:
        msg = f"got --histogram {options.histogram}, expected a name that ends in .png: the histogram is a PNG"
        raise ValueError(msg)
    existing = [path for path in (options.output, options.histogram) if path and Path(path).exists()]
    if existing and not options.overwrite:
        msg = f"got {' and '.join(existing)}, which exists, expected a new file; name another or add --overwrite"
        raise ValueError(msg)


def _by_clip(pairs: Sequence[QuestionPair]) -> dict[Clip, list[QuestionPair]]:
    clips: dict[Clip, list[QuestionPair]] = {}
    for pair in pairs:
        clips.setdefault(pair.clip, []).append(pair)
    return clips


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
