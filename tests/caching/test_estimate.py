from types import SimpleNamespace

import pytest
import torch

from ppl.batches import MediumInfo
from ppl.caching import estimate as module
from ppl.caching.estimate import Share, check_space, estimate, medium_bytes, size
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.feature_storage import FeatureFolder
from ppl.modules.poolers.none import NoPooler
from ppl.modules.video_llm import VideoLLM
from ppl.planning.recipe import build_model, read_recipe
from tests.modules.tiny import guided_model, image, make_batch, plain_model, tiny_aligner, tiny_backbone, video


def medium(kind, frames):
    return MediumInfo(0, kind, frames, (336, 336), "")


def test_a_video_of_32_frames_takes_36_mib_with_clip_l():
    model, _ = build_model(read_recipe(["-c", "recipes/experiments/sft_llava_next.yaml"]))
    assert model.model.backbone.image_size == 336
    assert medium_bytes(model.model, medium("video", 32), "float16") == 32 * 24 * 24 * 1024 * 2 == 36 * 2**20
    assert medium_bytes(model.model, medium("image", 5), "float32") == 5 * 24 * 24 * 1024 * 4


@pytest.mark.parametrize("storage", ["float16", "float32", "int8"])
@pytest.mark.parametrize(
    "make",
    [plain_model, guided_model, lambda **o: VideoLLM(tiny_backbone(), NoPooler(), tiny_aligner(own_tower=True), **o)],
)
def test_the_estimate_is_what_is_kept(make, storage):
    cache = FeatureCache(Caching(1.0, storage=storage))
    model = make(cache=cache)
    model.backbone.vision_tower.requires_grad_(False)
    batch = make_batch(model, ([video(4, key="a")], "what ?", "red"), ([image(50, 96, key="b")], "what ?", "red"))
    with torch.no_grad():
        model.encode(batch["pixel_values"], batch["media"])
    assert sum(medium_bytes(model, info, storage) for info in batch["media"]) == cache.num_bytes


def test_media_are_added_up_by_kind_and_frames():
    infos = [medium("video", 4), medium("image", 5), medium("video", 4), medium("image", 3)]
    shares = estimate(plain_model(), infos, "float16")
    assert [share[:3] for share in shares] == [("image", 3, 1), ("image", 5, 1), ("video", 4, 2)]
    assert shares[2].bytes == 2 * medium_bytes(plain_model(), infos[0], "float16")


def test_a_disk_that_is_too_small_is_refused(tmp_path, monkeypatch):
    folder = FeatureFolder(tmp_path / "features")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert check_space(1000, folder) == 1000
    with pytest.raises(ValueError, match=r"got 1000 bytes free at .*expected 1001 bytes: free some, set .*int8"):
        check_space(1001, folder)
    (tmp_path / "features/ab").mkdir(parents=True)
    (tmp_path / "features/ab/x.safetensors").write_bytes(b"there")
    assert check_space(1005, folder) == 1000, "a run that goes on has some of it"


def test_sizes_are_written_in_their_unit():
    assert [size(n) for n in (0, 1023, 1024, 36 * 2**20, 3 * 2**39)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "36.0 MiB", "1.5 TiB"
    ]  # fmt: skip
    assert Share("video", 4, 3, 10).bytes == 30
