import pytest
import torch

from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.tower_identity import autocast_precision, weights_identity
from tests.modules.tiny import make_batch, plain_model, tiny_aligner, tiny_backbone, video


def test_every_weight_and_the_precision_count():
    backbone = tiny_backbone()
    before = weights_identity(backbone, tiny_aligner())
    assert before == weights_identity(backbone, None), "an aligner without a tower of its own encodes nothing"
    with torch.no_grad():
        last = list(backbone.language_model.parameters())[-1]
        last += 1
    assert weights_identity(backbone, None) == before, "the language model sees no pixels"
    with torch.no_grad():
        next(backbone.vision_tower.parameters()).flatten()[0] += 1e-3
    after = weights_identity(backbone, None)
    backbone.vision_tower.half()
    assert len({before, after, weights_identity(backbone, None)}) == 3


def test_an_aligner_s_own_tower_counts():
    backbone, aligner = tiny_backbone(), tiny_aligner(own_tower=True)
    before = weights_identity(backbone, aligner)
    assert before != weights_identity(backbone, None)
    with torch.no_grad():
        next(aligner.tower.parameters()).flatten()[0] += 1e-3
    assert weights_identity(backbone, aligner) != before


def test_autocast_counts_where_it_is_on():
    tower = torch.nn.Linear(1, 1)
    assert autocast_precision(tower) == ""
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast_precision(tower) == "torch.bfloat16"
        with torch.autocast("cpu", enabled=False):
            assert autocast_precision(tower) == ""


def test_runs_of_another_precision_share_no_features(tmp_path):
    model = plain_model(cache=FeatureCache(Caching(folder=str(tmp_path))))
    model.backbone.vision_tower.requires_grad_(False)
    batch = make_batch(model, ([video(2, key="k")], "what ?", "red"))
    with torch.no_grad():
        model(batch)
        [_] = tmp_path.rglob("*.safetensors")
        with torch.autocast("cpu", torch.bfloat16):
            model(batch)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_a_tower_that_trains_is_refused():
    model = plain_model(cache=FeatureCache(Caching(0.1)))
    with pytest.raises(ValueError, match=r"feature cache with a vision tower that trains.*set cache: null"):
        model(make_batch(model, ([video(2, key="k")], "what ?", "red")))
