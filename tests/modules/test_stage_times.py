"""Stage by stage, the model answers as ``generate`` does; clocks are only asked to run forwards."""

from dataclasses import FrozenInstanceError, asdict
from types import SimpleNamespace

import pytest
import torch

from ppl.modules import stage_times
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.generation import Generation
from ppl.modules.stage_times import StageTimes, measure_stages, median_times, run_stages
from tests.modules.tiny import guided_model, image, inputs_seen, make_batch, plain_model, video

NEW_TOKENS = 6


def conversations():
    return [
        ([video(4, key="clip")], "what colour is the square ?", "red"),
        ([image(40, 90)], "is there a red circle in the image ?", "no"),
        ([], "which way ?", "left"),
        ([image(50, 50), image(60, 20)], "what is this ?", "a red circle"),
    ]


def until_end(row, tokenizer):
    tokens = row.tolist()
    end = tokenizer.eos_token_id
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@pytest.mark.parametrize("make", [guided_model, plain_model])
def test_the_stages_answer_as_generate_does(make):
    model = make()
    batch = make_batch(model, *conversations(), prompts=True)
    with torch.no_grad():
        expected = model.generate(model.embed(batch), batch["attention_mask"], Generation(max_new_tokens=NEW_TOKENS))
    times, tokens = run_stages(model, batch, num_new_tokens=NEW_TOKENS)
    assert tokens.shape == (len(conversations()), NEW_TOKENS)
    assert all(value > 0 for value in asdict(times).values())
    tokenizer = model.backbone.tokenizer
    answers = [until_end(row, tokenizer) for row in tokens]
    assert answers == [until_end(row, tokenizer) for row in expected]
    assert len({tuple(answer) for answer in answers}) > 2, "answers hardly differ: the comparison proves nothing"


def test_every_run_counts_but_the_first_and_none_reads_the_cache():
    model = guided_model(cache=FeatureCache(Caching(1.0)))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    batch = make_batch(model, conversations()[0], prompts=True)
    model.encode(batch["pixel_values"], batch["media"])
    with inputs_seen(model.backbone.vision_tower) as frames, inputs_seen(model.pooler) as grids:
        times = measure_stages(model, batch, num_new_tokens=2, repeats=3)
    assert all(value > 0 for value in asdict(times).values())
    assert [len(pixels) for pixels in frames] == [4] * 4
    assert len(grids) == 4
    assert len(model.cache) == 1


def test_each_stage_times_its_own_parts(monkeypatch):
    """By a clock that only the parts move: seconds, to be found in milliseconds where they belong."""
    model, now = guided_model(), [0.0]
    batch = make_batch(model, conversations()[0], prompts=True)
    parts = {
        model.backbone.vision_tower: 0.5,
        model.aligner.text_tower: 1.0,
        model.aligner.visual_projection: 2.0,
        model.pooler: 4.0,
        model.backbone.projector: 8.0,
        model.backbone.language_model: 16.0,
        model.backbone.hf.lm_head: 32.0,
    }
    for part, seconds in parts.items():
        part.register_forward_hook(lambda *_, s=seconds: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(stage_times, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    expected = StageTimes(tower=500.0, pool=15_000.0, prefill=48_000.0, per_token=48_000.0)
    assert measure_stages(model, batch, num_new_tokens=4, repeats=1) == expected


def test_modes_are_put_back_and_dropout_is_off():
    model = guided_model().train()
    model.backbone.vision_tower.eval()
    modes = [module.training for module in model.modules()]
    seen = []
    model.pooler.register_forward_pre_hook(lambda module, _: seen.append((module.training, torch.is_grad_enabled())))
    run_stages(model, make_batch(model, conversations()[0], prompts=True), num_new_tokens=2)
    assert seen == [(False, False)]
    assert [module.training for module in model.modules()] == modes


def test_the_median_is_each_stage_s_own():
    runs = [StageTimes(1.0, 6.0, 7.0, 2.0), StageTimes(2.0, 5.0, 9.0, 3.0), StageTimes(3.0, 4.0, 8.0, 1.0)]
    assert median_times(runs) == StageTimes(2.0, 5.0, 8.0, 2.0)
    with pytest.raises(FrozenInstanceError):
        runs[0].tower = 0.0


def test_what_cannot_be_measured_is_refused():
    model = guided_model()
    rows = conversations()
    prompts = make_batch(model, rows[0], prompts=True)
    with pytest.raises(ValueError, match="got num_new_tokens=1, expected at least 2"):
        measure_stages(model, prompts, num_new_tokens=1)
    with pytest.raises(ValueError, match="got repeats=0, expected at least 1"):
        measure_stages(model, prompts, repeats=0)
    with pytest.raises(ValueError, match="got a batch without media, expected one with a video"):
        measure_stages(model, make_batch(model, rows[2], prompts=True))
    with pytest.raises(ValueError, match="got a batch padded on the right, expected prompts padded on the left"):
        measure_stages(model, make_batch(model, *rows))
