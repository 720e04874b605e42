"""Other ways to pool with the same model, against poolers that are made for the same windows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppl.datamodules.processing import Processor
from ppl.functional.budget import budget_kernel
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.base import Pooler
from ppl.modules.poolers.budget import BudgetPooler
from ppl.modules.poolers.none import NoPooler
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.serving.variants import FittedWindows, for_model, read_pooler, with_budget, with_pooler
from tests.modules.tiny import ROOT, make_batch, plain_model, video

PARTS = sorted((ROOT / "recipes/parts/poolers").glob("*.yaml"))
sizes = st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 7))


def test_another_pooler_shares_all_else(model):
    other = with_pooler(model, AveragePooler((1, 2, 2)))
    assert {*map(id, other.parameters())} == {*map(id, model.parameters())}
    batch = make_batch(other, ([video(4)], "what colour ?", ""), prompts=True)
    with torch.no_grad():
        changed = other.embed(batch)
        model.pooler = AveragePooler((1, 2, 2))
        assert torch.equal(changed, model.embed(batch))


@pytest.mark.parametrize("training", [True, False])
def test_another_pooler_trains_if_the_model_does_and_nothing_else_is_touched(training):
    """The model may be at work in another thread; a walk through all of a large one would take milliseconds, too."""
    model = plain_model().train(training)
    odd = model.backbone.projector
    odd.training = not training
    other = with_pooler(model, NoPooler().train(not training))
    assert (other.training, other.pooler.training, odd.training) == (training, training, not training)


def test_a_pooler_that_the_model_cannot_have_is_refused():
    with pytest.raises(ValueError, match="got WeightedPooler without an aligner"):
        with_pooler(plain_model(), WeightedPooler())


def test_a_processor_reads_as_before_and_renders_for_the_other_model(model):
    processor = Processor(model.input_spec, num_frames=3)
    other = with_pooler(model, NoPooler())
    changed = for_model(processor, other)
    assert (changed.num_frames, changed.template, changed.decoder) == (3, processor.template, processor.decoder)
    [prepared] = changed.prepare([video(4)])
    assert changed.inputs.num_visual_tokens(prepared.info) == 4 * 36
    assert processor.inputs.num_visual_tokens(prepared.info) < 4 * 36


@given(sizes, st.integers(1, 60), st.sampled_from(["video", "image", "multi_image"]))
def test_a_budget_is_kept_by_the_windows_that_suit_the_size(size, budget, kind):
    may_merge = kind == "video"
    pooler = with_budget(WeightedPooler((9, 9, 9), None, (1, 9, 9), normalization="window"), budget)
    if not may_merge and size[0] > budget:
        with pytest.raises(ValueError, match="one or more for each"):
            pooler.num_tokens(size, kind)
        return
    window = budget_kernel(size, budget, frames_may_merge=may_merge)
    image_window = window if not may_merge else (1, 1, 1)
    made = WeightedPooler(window, None, image_window, edges="pad", normalization="window")
    grid, relevance = torch.randn(*size, 5), torch.randn(*size)
    tokens = pooler(grid, relevance, kind)
    assert len(tokens) == pooler.num_tokens(size, kind) == made.num_tokens(size, kind) <= budget
    assert pooler.output_grid(size, kind) == made.output_grid(size, kind)
    assert torch.equal(tokens, made(grid, relevance, kind))


def test_the_pooler_itself_stays_as_it_is():
    windows = AveragePooler((2, 3, 3))
    fitted = with_budget(windows, 5)
    fitted(torch.randn(4, 6, 6, 2), None, "video")
    assert (windows.kernel_size, windows.edges) == ((2, 3, 3), "drop")
    assert not fitted.uses_relevance


def test_the_newest_budget_counts():
    again = with_budget(with_budget(AveragePooler(), 5), 40)
    assert isinstance(again, FittedWindows)
    assert again.num_tokens((4, 6, 6), "video") in range(20, 41)


def test_a_pooler_that_has_a_budget_gets_another(model):
    pooler = with_budget(BudgetPooler(10, 20, 30, 0.5), 7)
    assert isinstance(pooler, BudgetPooler)
    assert (pooler.budget, pooler.image_budget, pooler.multi_image_budget, pooler.fine_share) == (7, 7, 7, 0.5)
    assert with_pooler(model, pooler).pooler.num_tokens((4, 6, 6), "video") == 7


@pytest.mark.parametrize("budget", [0, -3])
def test_no_budget_is_refused(budget):
    with pytest.raises(ValueError, match=rf"got a budget of {budget} tokens, expected at least 1"):
        with_budget(AveragePooler(), budget)


def test_a_pooler_without_windows_has_no_budget():
    with pytest.raises(
        ValueError, match=r"got a budget of 9 tokens for NoPooler.*; expected one like .*weighted\.yaml"
    ):
        with_budget(NoPooler(), 9)


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
def test_every_part_is_a_pooler(path):
    pooler = read_pooler(path)
    assert isinstance(pooler, Pooler)
    assert type(pooler).__name__ in path.read_text()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, FileNotFoundError, r"which does not exist; expected a file like recipes/parts/poolers/average\.yaml"),
        ("class_path: torch.nn.Linear", ValueError, "describes no pooler"),
        ("class_path: ppl.modules.AveragePooler\ninit_args: {kernel: 3}", ValueError, "describes no pooler"),
        ("[", ValueError, "describes no pooler"),
        ("", ValueError, r"pooler.yaml, which is empty, expected one like recipes/parts/poolers/average\.yaml"),
    ],
)
def test_what_is_no_pooler_is_refused(tmp_path, text, error, message):
    path = tmp_path / "pooler.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=message):
        read_pooler(path)
