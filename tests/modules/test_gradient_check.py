import pytest
import torch
from torch.utils.data import DataLoader

from ppl.modules import gradient_check
from ppl.modules.gradient_check import GradientCheck
from ppl.modules.lora import LoRA
from ppl.modules.parts import LearningRates
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from tests.modules.test_poolers import SMALL, found_poolers
from tests.modules.tiny import image, make_batch, tiny_aligner, tiny_backbone, video
from tests.quiet import quiet_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]
EVERYTHING = LearningRates(1e-3, 1e-3, 1e-3, 1e-3, 1e-3)
QUESTION, ANSWER = "what colour is the square ?", "red"


def build(pooler=None, rates=EVERYTHING, **options):
    pooler = pooler or WeightedPooler((2, 3, 2), None, (1, 3, 2))
    return SFTModule(tiny_backbone(), pooler, tiny_aligner(), learning_rates=rates, **options)


def fit(module, folder, *media, accumulate=1):
    batches = [make_batch(module.model, (each, QUESTION, ANSWER)) for each in media]
    trainer = quiet_trainer(folder, GradientCheck(), accumulate_grad_batches=accumulate)
    trainer.fit(module, DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch))
    return trainer.global_step


def cut(module, part):
    """Cut one part off the loss; it still has its learning rate."""
    for parameter in {p.name: p.parameters for p in module.parts}[part]:
        parameter.register_hook(torch.zeros_like)


@pytest.mark.parametrize("part", ["language_model", "projector", "text_tower", "vision_tower"])
def test_a_part_without_gradient_stops_the_first_step_by_name(tmp_path, part):
    module = build()
    cut(module, part)
    expected = rf"got no gradient for {part} in step 0, expected one .* set model.learning_rates.{part}=0"
    with pytest.raises(ValueError, match=expected):
        fit(module, tmp_path, [video(4), image(40, 90)])


def test_a_text_says_nothing_of_the_projector_and_the_next_video_does(tmp_path):
    module = build()
    cut(module, "projector")
    with pytest.raises(ValueError, match="got no gradient for projector in step 1"):
        fit(module, tmp_path, [], [video(4)])


def test_batches_of_one_step_count_together(tmp_path):
    module = build()
    cut(module, "projector")
    with pytest.raises(ValueError, match="got no gradient for projector in step 0"):
        fit(module, tmp_path, [video(4)], [], accumulate=2)


def test_everything_trains_from_the_first_step(tmp_path):
    assert fit(build(), tmp_path, [video(4)], []) == 2
    assert fit(build(lora=LoRA(rank=2)), tmp_path, [video(4)]) == 1
    assert fit(build(), tmp_path, [image(40, 90)]) == 1


def test_what_no_batch_reaches_is_named_at_the_end(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(gradient_check, "rank_zero_info", told.append)
    fit(build(), tmp_path, [video(4)])
    (line,) = told
    assert line.startswith("newline never got a gradient: no batch held what reaches")


def reducing_poolers():
    """Every guided pooler as it comes, and with settings under which it reduces a small grid."""
    for cls, options in [*((cls, {}) for cls in found_poolers()), *SMALL.values()]:
        if cls(**options).uses_relevance:
            yield cls, options


@pytest.mark.parametrize(("cls", "options"), list(reducing_poolers()))
def test_every_pooler_hands_on_a_gradient(tmp_path, cls, options):
    """A false alarm would end a good run."""
    try:
        module = build(cls(**options), LearningRates())
        steps = fit(module, tmp_path, [video(4)])
    except ValueError as error:
        if "gradient" in str(error):
            raise
        return  # its own settings are for larger grids
    assert steps == 1
