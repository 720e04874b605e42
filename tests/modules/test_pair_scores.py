"""Oracles: transformers' own forward of one answer after the other, unpadded, whole logits; media encoded for each."""

import torch

from ppl.batches import IGNORE_INDEX
from ppl.modules.pair_scores import pair_scores, score_pairs
from tests.modules.pairs import pair_batch
from tests.modules.tiny import guided_model, image, inputs_seen, make_batch, plain_model, video

QUESTION = "what colour is the square ?"


def media():
    return [
        ([video(4)], QUESTION, "red", "the square is blue , and there is a ring"),
        ([image(60, 100), image(50, 50)], QUESTION, "a red square", "no"),
        ([], QUESTION, "yes", "no"),
    ]


def one_by_one(model, pairs):
    """Log-probability of each answer, better ones first."""
    totals = []
    for side in (2, 3):
        for pair in pairs:
            batch = make_batch(model, (pair[0], pair[1], pair[side]))
            logits = model.backbone.hf(inputs_embeds=model.embed(batch)).logits[0]
            labels = batch["labels"][0]
            places = (labels != IGNORE_INDEX).nonzero()[:, 0]
            totals.append(logits.log_softmax(-1)[places - 1, labels[places]].sum())
    return torch.stack(totals)


@torch.no_grad()
def test_as_transformers_one_by_one():
    for model in (plain_model(), guided_model()):
        pairs = media()
        got = score_pairs(model, pair_batch(model, *pairs)).logprobs
        # other sums in attention, over padding; totals are some tens
        torch.testing.assert_close(got.total, one_by_one(model, pairs), rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_media_pass_the_tower_and_the_projector_once_a_pair():
    model, pairs = guided_model(), media()
    batch = pair_batch(model, *pairs)
    assert len(batch["pixel_values"]) == sum(m.num_frames for m in batch["media"])
    assert [m.sample for m in batch["media"]] == [0, 1, 1]
    with inputs_seen(model.backbone.vision_tower) as frames, inputs_seen(model.aligner.text_tower) as prompts:
        scores = score_pairs(model, batch)
        assert sum(len(seen) for seen in frames) == len(batch["pixel_values"])
        assert sum(len(seen) for seen in prompts) == len(pairs)
        again = pair_scores(model, batch, scores.visual)  # as a reference does
        assert sum(len(seen) for seen in frames) == len(batch["pixel_values"])
    torch.testing.assert_close(again.logprobs.total, scores.logprobs.total, rtol=0, atol=0)


def test_gradients_are_those_of_encoding_each_answer_s_media():
    model, pairs = guided_model(), media()
    weights = torch.tensor([1.0, -2.0, 0.5, 0.3, 1.5, -1.0])
    parts = [model.backbone.projector, model.backbone.language_model, model.aligner.text_tower]
    trained = [p for part in parts for p in part.parameters() if p.requires_grad]

    def gradients(totals):
        return torch.autograd.grad((weights * totals).sum(), trained, allow_unused=True)

    shared = gradients(score_pairs(model, pair_batch(model, *pairs)).logprobs.total)
    apart = gradients(one_by_one(model, pairs))
    assert any(g is not None and g.any() for g in shared)
    for one, other in zip(shared, apart, strict=True):
        if one is not None and other is not None:  # transformers leaves the same ones out
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)  # sums over all positions in another order
    assert [g is None for g in shared] == [g is None for g in apart]
