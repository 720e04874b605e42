import pytest
import torch

from ppl.modules.lora import LoRA, add_lora
from ppl.modules.model_identity import model_identity
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.video_llm import VideoLLM
from tests.modules.tiny import tiny_aligner, tiny_backbone


def made(pooler=None, site="pre_projector", **options):
    torch.manual_seed(0)
    return VideoLLM(tiny_backbone(**options), pooler or WeightedPooler(), tiny_aligner(), pool_site=site)


def test_equal_models_are_one():
    assert model_identity(made(), "32-true") == model_identity(made(), "32-true")


def test_all_that_decides_a_result_counts():
    def nudged():
        model = made()
        with torch.no_grad():
            model.backbone.hf.lm_head.weight[3, 5] += 1e-6
        return model

    def adapted():
        model = made()
        add_lora(model.backbone, LoRA(4, 8.0))
        with torch.no_grad():
            [p.add_(0.1) for name, p in model.named_parameters() if ".lora_B." in name]
        return model

    others = [
        made(WeightedPooler((4, 3, 3))),
        made(WeightedPooler(temperature=0.02)),
        made(WeightedPooler(normalization="official")),
        made(site="post_projector"),
        made(tile_images=False),
        nudged(),
        adapted(),
    ]
    found = [model_identity(made(), "32-true"), model_identity(made(), "bf16-mixed")]
    found += [model_identity(model, "32-true") for model in others]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("rank", [2, 4])
def test_new_adapters_do_not_count(rank):
    model = made()
    add_lora(model.backbone, LoRA(rank, 8.0))
    assert model_identity(model, "32-true") == model_identity(made(), "32-true")
