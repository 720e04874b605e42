"""Poolers that a model can be switched to."""

import pytest

from ppl.batches import MediumInfo
from ppl.recipe_folder import recipe_folder
from ppl.serving.fitting_poolers import poolers_that_fit
from ppl.serving.variants import with_pooler
from tests.modules.tiny import plain_model

PARTS = recipe_folder() / "parts" / "poolers"


def test_all_that_fit_leave_fewer_tokens_than_there_are_patches(model, processor):
    found = poolers_that_fit(model, processor, PARTS)
    assert {"average", "weighted", "max", "none"} <= found.keys() < {path.stem for path in PARTS.glob("*.yaml")}
    video = MediumInfo(0, "video", processor.num_frames, (48, 48), "")
    tokens = {name: with_pooler(model, pooler).num_visual_tokens(video) for name, pooler in found.items()}
    assert tokens.pop("none") == 4 * 36
    assert all(count < 4 * 36 for count in tokens.values())
    assert "adaptive_average" not in found, "made for larger grids"


def test_without_an_aligner_none_wants_relevance(processor):
    found = poolers_that_fit(plain_model(), processor, PARTS)
    assert "average" in found
    assert not any(pooler.uses_relevance for pooler in found.values())


def test_a_file_that_describes_no_pooler_is_an_error(model, processor, tmp_path):
    (tmp_path / "mine.yaml").write_text("class_path: torch.nn.Linear\n")
    with pytest.raises(ValueError, match="describes no pooler"):
        poolers_that_fit(model, processor, tmp_path)
