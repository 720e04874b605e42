"""What `ppl redundancy` tells: the ranking, the spread of certificates, and whether the threshold suits the model.

Axes: t frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text
from torch import Tensor

from ppl.analysis.question_pairs import QuestionPair

_BINS = 20
_QUANTILES = {"least": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "most": 1.0}


class Certificate(NamedTuple):
    """How much of its clip a question-answer pair needs."""

    pair: QuestionPair
    similarities: Float[Tensor, " t"]
    """Cosine of each frame and the pair's text."""
    num_relevant: int
    share: float
    """Of the frames that are relevant, 0 to 1."""
    seconds: float
    """That share of the clip's length."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; similarities with four digits."""
        pair = self.pair
        return {
            "id": pair.id,
            "question": pair.question,
            "answer": pair.answer,
            **pair.clip._asdict(),
            "num_frames": len(self.similarities),
            "num_relevant": self.num_relevant,
            "certificate": self.share,
            "certificate_seconds": round(self.seconds, 3),
            "similarities": [round(value, 4) for value in self.similarities.tolist()],
        }


def most_redundant(certificates: Sequence[Certificate], top: int) -> Table:
    """Make a table of the pairs with the shortest certificates; equal ones keep their order."""
    shown = sorted(certificates, key=lambda certificate: certificate.share)[:top]
    table = Table(title=f"the {len(shown)} most redundant of {len(certificates)} question-answer pairs")
    for heading in ("certificate", "seconds", "frames"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("id", "question", "answer", "video"):
        table.add_column(heading, overflow="fold")
    for found in shown:
        frames = f"{found.num_relevant}/{len(found.similarities)}"
        pair = found.pair
        words = (pair.id, pair.question, pair.answer, Path(pair.clip.video).name)
        table.add_row(f"{found.share:.3f}", f"{found.seconds:.1f}", frames, *map(Text, words))  # no markup in data
    return table


def threshold_warning(certificates: Sequence[Certificate], threshold: float, *, relative: bool) -> str:
    """Say that no frame of any video is relevant, and what would be; empty if there is one that is."""
    if any(certificate.num_relevant for certificate in certificates):
        return ""
    observed = np.concatenate([certificate.similarities.numpy() for certificate in certificates])
    quantiles = np.quantile(observed, list(_QUANTILES.values()))
    spread = ", ".join(f"{name} {value:.3f}" for name, value in zip(_QUANTILES, quantiles, strict=True))
    remedy = "lower --threshold" if relative else "choose a --threshold among these, or --relative"
    return (
        f"no frame of any video exceeds the threshold {threshold:g}: every certificate is 0, and the ranking is the "
        f"order of the file. Cosines observed: {spread}. CLIP's cosine of a picture and a text that fits it is usually "
        f"0.2 to 0.35; the paper does not say on which scale its 0.5 lies (CLIPScore's, 2.5 times the cosine, would "
        f"make it 0.2). Expected a threshold that some frames exceed: {remedy}"
    )


def draw_histogram(path: str | Path, certificates: Sequence[Certificate]) -> None:
    """Draw how many pairs have which certificate, as PNG."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist([certificate.share for certificate in certificates], bins=_BINS, range=(0, 1), color="tab:blue")
    axes.set(xlabel="certificate (share of relevant frames)", ylabel="question-answer pairs", xlim=(0, 1))
    figure.savefig(path, format="png", dpi=150)
