import torch

from tests.modules.backbones.test_loading import EACH, PARTS


@EACH
def test_identity_follows_the_tower(name, backbone_class):
    backbone = backbone_class(str(PARTS / name), initialize="random")
    before = backbone.vision_identity()
    with torch.no_grad():
        backbone.hf.lm_head.weight.add_(1)
    assert backbone.vision_identity() == before
    with torch.no_grad():
        next(backbone.vision_tower.parameters()).add_(1)
    assert backbone.vision_identity() != before


@EACH
def test_identity_follows_the_tower_s_config(name, backbone_class):
    backbone = backbone_class(str(PARTS / name), initialize="random")
    before, config = backbone.vision_identity(), backbone.hf.config.vision_config
    config._name_or_path, config.transformers_version = "another/folder", "0.0"
    assert backbone.vision_identity() == before
    config.hidden_act = "relu"
    assert backbone.vision_identity() != before
