"""Operations of real batches: against PyTorch's own counter, and against what `ppl plan` says of the same sample."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ppl.functional.losses import next_token_loss
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.lora import LoRA
from ppl.modules.parts import LearningRates
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from ppl.modules.work_meter import WorkMeter
from ppl.planning.media import count_medium
from ppl.planning.sample_work import Text, sample_work
from tests.modules.tiny import image, tiny_aligner, tiny_backbone, video
from tests.modules.tiny import make_batch as conversations
from tests.planning.measuring import BACKBONES, ROOT, built, make_batch, recipe_words

pytestmark = pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`")
TEXT, FRAMES = Text(12, 8), 4
FULL = LearningRates()


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def module_with(rates=FULL, **options):
    pooler = WeightedPooler((2, 3, 2), None, (1, 3, 2))
    backbone = options.pop("backbone", None) or tiny_backbone()
    aligner = options.pop("aligner", None) or tiny_aligner()
    return SFTModule(backbone, pooler, aligner, learning_rates=rates, **options).train()


def step(module, batch, meter=None):
    meter = meter or WorkMeter(module.model)
    meter.is_counting = True
    next_token_loss(module.model(batch), batch["labels"]).backward()
    meter.is_counting = False
    return meter.read()


def counted(module, batch):
    """What PyTorch's counter sees of a step."""
    with FlopCounterMode(display=False) as counter:
        next_token_loss(module.model(batch), batch["labels"]).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_sample_s_operations_are_those_of_the_plan(backbone):
    """To the last operation: one video, nothing padded, nothing cached."""
    _, module = built(recipe_words(backbone, "weighted"))
    planned = sample_work(module.model, count_medium(module.model, "video", FRAMES), TEXT).as_numbers()
    batch = make_batch(module, FRAMES, TEXT)
    counts = step(module, batch)
    assert counts.flops == planned["training"]
    assert counts.tokens == counts.positions == batch["input_ids"].numel()


CASES = {
    "papers": lambda: module_with(),
    "tower": lambda: module_with(LearningRates(vision_tower=1e-5, aligner_projection=1e-5)),
    "projector only": lambda: module_with(LearningRates(language_model=None, text_tower=None)),
    "lora": lambda: module_with(lora=LoRA(rank=2)),
    "own tower": lambda: module_with(aligner=tiny_aligner(own_tower=True)),
    "branch": lambda: module_with(backbone=tiny_backbone(bt_adapter_depth=2, bt_adapter_frames=4)),
}
MEDIA = [([video(4)], "what colour is the square ?", "red"), ([image(40, 90)], "what is this ?", "a red circle")]


@pytest.mark.parametrize("case", CASES)
def test_a_mixed_batch_against_pytorch_s_counter(case):
    """Rows of one length are left to others: without padding the counter counts what the meter does.

    Within 6 %: the counter takes a fused kernel's backward pass for 2.5 forward passes of attention, sees the products
    of relevance, and that a tower's last layers get no gradient (15 % of a tower that trains and has few layers).
    """
    module = CASES[case]()
    for conversation in MEDIA:
        batch = conversations(module.model, conversation)
        assert step(module, batch).flops == pytest.approx(counted(module, batch), rel=0.15 if case == "tower" else 0.06)


def test_padding_is_no_work():
    module = module_with()
    rows = [([], "which way ?", "left"), ([], "which way ? " * 9, "left")]
    apart = [step(module, conversations(module.model, row)) for row in rows]
    together = step(module, conversations(module.model, *rows))
    assert together.flops == sum(counts.flops for counts in apart)
    assert together.tokens == sum(counts.tokens for counts in apart)
    assert together.positions == 2 * max(counts.tokens for counts in apart)


def test_packed_rows_are_their_samples():
    """Samples 1 and 2 in one row and a position of padding: attention within each of them alone."""
    module = module_with()
    backbone, meter = module.model.backbone, WorkMeter(module.model)

    def run(*masks):
        meter.is_counting = True
        for mask in masks:
            ids = torch.full((1, len(mask)), 5)
            backbone(backbone.embed(ids), torch.tensor([mask]))
        return meter.read()

    apart, packed = run([1] * 5, [1] * 7), run([1] * 5 + [2] * 7 + [0])
    assert packed._replace(positions=12) == apart
    assert packed.positions == 13


def test_cached_features_skip_the_tower():
    module = module_with(cache=Caching(memory_gib=0.1))
    assert isinstance(module.model.cache, FeatureCache)
    batch = conversations(module.model, ([video(4, key="clip")], "what colour is the square ?", "red"))
    first, second = step(module, batch), step(module, batch)
    with FlopCounterMode(display=False) as counter:
        module.model.backbone.encode_frames(batch["pixel_values"])
    assert first.flops - second.flops == counter.get_total_flops()


def test_without_gradients_there_is_no_backward_pass_and_no_token_trained_on():
    module = module_with()
    batch = conversations(module.model, ([], "which way ?", "left"))
    meter = WorkMeter(module.model)
    whole = step(module, batch, meter)
    meter.is_counting = True
    with torch.no_grad():
        module.model(batch)
    forward = meter.read()
    assert forward.tokens == 0
    # All of the language model trains: gradients of weights and inputs, 2 of 3 parts; attention's likewise.
    assert whole.flops == 3 * forward.flops


def test_the_head_at_some_positions_counts_for_those():
    module = module_with()
    backbone, meter = module.model.backbone, WorkMeter(module.model)
    meter.is_counting = True
    with torch.no_grad():
        backbone.hf.lm_head(torch.zeros(3, backbone.hf.lm_head.in_features))
    assert meter.read().flops == 2 * 3 * backbone.hf.lm_head.weight.numel()


def test_it_counts_only_when_told_and_can_be_taken_off():
    module = module_with()
    batch = conversations(module.model, ([], "which way ?", "left"))
    meter = WorkMeter(module.model)
    module.model(batch)
    assert meter.read() == (0, 0, 0)
    meter.detach()
    meter.is_counting = True
    module.model(batch)
    assert meter.read() == (0, 0, 0)
