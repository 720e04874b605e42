import pytest
import torch

from ppl.modules.poolers.none import NoPooler
from ppl.modules.video_llm import VideoLLM
from tests.modules.backbones.test_loading import CLASSES, EACH, PARTS
from tests.modules.tiny import inputs_seen


@EACH
def test_parts_name_every_parameter_once(name, backbone_class):
    backbone = backbone_class(str(PARTS / name), initialize="random")
    named = [parameter for _, parameters in backbone.parts() for parameter in parameters]
    assert len(named) == len(set(named))
    assert set(named) == set(backbone.parameters())
    parts = dict(backbone.parts())
    assert set(backbone.projector.parameters()) <= set(parts["projector"])
    assert len(parts["projector"]) - len(list(backbone.projector.parameters())) == hasattr(
        backbone.hf.model, "image_newline"
    )


@EACH
@pytest.mark.parametrize("step", [1, 3, 5, 100])
def test_frames_in_chunks_are_frames_at_once(name, backbone_class, step):
    torch.manual_seed(0)
    whole = backbone_class(str(PARTS / name), initialize="random").eval()
    chunked = backbone_class(str(PARTS / name), initialize="random", frames_per_forward=step).eval()
    chunked.load_state_dict(whole.state_dict())
    frames = torch.randint(256, (5, 3, whole.image_size, whole.image_size), dtype=torch.uint8)
    tower = getattr(chunked.hf.model, chunked.spec.video_tower)
    with inputs_seen(tower) as seen, torch.no_grad():
        parts = chunked.encode_frames(frames)
    assert max(len(pixels) for pixels in seen) == min(step, 5)
    with torch.no_grad():
        # Other numbers of frames may go through other kernels of the same library: fp32 rounding of values near 1.
        torch.testing.assert_close(parts, whole.encode_frames(frames), atol=2e-5, rtol=2e-5)


def test_no_frame_at_a_time():
    with pytest.raises(ValueError, match="got frames_per_forward=0, expected at least 1, or null"):
        CLASSES["tiny_internvl"](str(PARTS / "tiny_internvl"), initialize="random", frames_per_forward=0)


@EACH
def test_only_the_layer_that_is_read_is_kept(name, backbone_class):
    """Of all the tower's layers; what is read is what the tower gives when asked for all, to the last bit."""
    backbone = backbone_class(str(PARTS / name), initialize="random").eval()
    backbone.hf.config.vision_feature_layer = -2
    tower = getattr(backbone.hf.model, backbone.spec.video_tower)
    asked = []
    handle = tower.register_forward_hook(lambda _, inputs, output: asked.append((inputs, output.hidden_states)))
    frames = torch.randint(256, (2, 3, backbone.image_size, backbone.image_size), dtype=torch.uint8)
    grid = backbone.encode_frames(frames)
    handle.remove()
    [((pixels,), kept)] = asked
    everything = tower(pixels, output_hidden_states=True).hidden_states
    assert [state is not None for state in kept] == [at == len(everything) - 2 for at in range(len(everything))]
    patches = everything[-2][:, 1:] if backbone.spec.has_cls else everything[-2]
    assert torch.equal(grid.flatten(1, 2), patches)


@EACH
def test_only_the_tower_s_gradients_stop(name, backbone_class):
    """A frozen tower still lets the projector and the newline learn."""
    backbone = backbone_class(str(PARTS / name), initialize="random")
    backbone.vision_tower.requires_grad_(False)
    model = VideoLLM(backbone, NoPooler())
    frames = torch.randint(256, (2, 3, backbone.image_size, backbone.image_size), dtype=torch.uint8)
    model.pool_and_project(backbone.encode_frames(frames), None, "video").square().sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.projector.parameters())
