"""Exported folders, opened by plain transformers, by plain peft and by `ppl`, against the checkpoint they came from."""

import re
import shutil

import numpy as np
import peft
import pytest
import torch
import yaml
from safetensors.torch import load_file

from ppl import checkpoints
from ppl.checkpoint_files import ADAPTER, DESCRIPTION, PROJECTOR
from ppl.cli import main
from ppl.datamodules.synthetic.writer import write_video
from ppl.exporting.export import export
from ppl.modules.backbones.llava_next import LlavaNextBackbone
from ppl.modules.lora import merge_lora
from tests.exporting.tiny_runs import base, fit
from tests.parity.native import BACKBONES, TEMPLATES, make_batch, video

TEXT = "what colour is the square ?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def run(folder):
    """Two steps of LoRA upon a tiny LLaVA-NeXT."""
    return fit(base(folder), folder / "run")


@pytest.fixture(scope="module")
def merged(run, folder):
    assert export(run[1], folder / "merged", merge=True)
    return folder / "merged"


@pytest.fixture(scope="module")
def apart(run, folder):
    assert not export(run[1], folder / "apart")
    return folder / "apart"


@torch.no_grad()
def logits(module):
    torch.manual_seed(0)
    name = next((name for name, kind in BACKBONES.items() if isinstance(module.model.backbone, kind)))
    return module.model(make_batch(module.model, [[video(4)], []], TEMPLATES.get(name, "vicuna_v1")))


@torch.no_grad()
def text_logits(hf, module):
    ids = module.input_spec.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    return hf.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def lora_of(kind):
    return f"--model.lora={{{kind}rank: 4, alpha: 8.0, dropout: 0.0}}", "--model.learning_rates.lora=0.01"


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("name", BACKBONES)
def test_plain_transformers_and_plain_peft_open_what_is_exported(name, tmp_path):
    """Of each class, and of LoRA, rsLoRA and DoRA: the same logits as the checkpoint.

    Unmerged to the last bit; merged, float32 sums are of another order, 1e-7 of logits of about 1.
    """
    kind = "rank_stabilized: true, " if name == "tiny_video_llava" else "dora: true, " if "onevision" in name else ""
    source = base(tmp_path, name)
    module, path = fit(source, tmp_path / "run", name=name, lora=lora_of(kind))
    hf_class = type(module.model.backbone.hf)
    expected = text_logits(module.model.backbone.hf, module)

    export(path, tmp_path / "apart")
    plain = hf_class.from_pretrained(source)
    assert not torch.allclose(text_logits(plain, module), expected, atol=1e-3)
    with_adapter = peft.PeftModel.from_pretrained(plain, tmp_path / "apart" / "adapter")
    assert torch.equal(text_logits(with_adapter, module), expected)
    projector = load_file(tmp_path / "apart" / PROJECTOR)
    assert hf_class.from_pretrained(source).load_state_dict(projector, strict=False).unexpected_keys == []
    assert {key.split(".")[1] for key in projector} == {"multi_modal_projector"}
    loaded = checkpoints.load(tmp_path / "apart")
    assert torch.equal(logits(loaded), logits(module))

    export(path, tmp_path / "merged", merge=True)
    plain, report = hf_class.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(text_logits(plain, module), expected, atol=1e-5, rtol=1e-5)
    loaded = checkpoints.load(tmp_path / "merged")
    torch.testing.assert_close(logits(loaded), logits(module), atol=1e-5, rtol=1e-5)
    assert torch.equal(text_logits(plain, module), text_logits(loaded.model.backbone.hf, module))
    merge_lora(module.model.backbone)
    assert torch.equal(logits(loaded), logits(module)), "of the merged model, every bit comes back"


def chat(capsys, checkpoint, clip):
    main(["chat", str(clip), TEXT, "--checkpoint", str(checkpoint), "--max-new-tokens", "5"])
    return capsys.readouterr().out


def test_chat_answers_as_the_checkpoint_does(run, merged, apart, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clip = tmp_path / "clip.mp4"
    write_video(clip, np.random.default_rng(0).integers(256, size=(12, 3, 48, 48), dtype=np.uint8))
    moved = shutil.copytree(merged, tmp_path / "elsewhere")
    answers = {chat(capsys, checkpoint, clip) for checkpoint in (run[1], merged, apart, moved)}
    assert len(answers) == 1
    assert answers.pop().strip()


def test_what_a_merged_folder_has(run, merged):
    files = {file.relative_to(merged).as_posix() for file in merged.rglob("*") if file.is_file()}
    named = {"config.json", "tokenizer.json", "model.safetensors", "backbone.yaml", "README.md", DESCRIPTION}
    assert named | {"ppl.safetensors", "aligner/open_clip_config.json"} <= files
    description = yaml.safe_load((merged / DESCRIPTION).read_text())
    assert description["model"]["init_args"]["lora"] is None
    assert description["model"]["init_args"]["pooler"]["class_path"].endswith("WeightedPooler")
    assert description["conversation"] == run[0].conversation | checkpoints.load(run[1]).conversation
    part = yaml.safe_load((merged / "backbone.yaml").read_text())
    assert part["init_args"]["source"] == str(merged)
    opened = LlavaNextBackbone(**part["init_args"])
    assert opened.hf.lm_head.weight.shape == run[0].model.backbone.hf.lm_head.weight.shape
    assert "LlavaNextForConditionalGeneration.from_pretrained('merged')" in (merged / "README.md").read_text()


def test_what_an_adapter_folder_has(apart, folder):
    files = {file.relative_to(apart).as_posix() for file in apart.rglob("*") if file.is_file()}
    named = {ADAPTER, "adapter/adapter_config.json", PROJECTOR, "ppl.safetensors", "README.md", DESCRIPTION}
    assert named <= files
    assert not any(name.startswith("model") for name in files)
    card = (apart / "README.md").read_text()
    assert f"base_model: {folder / 'base_tiny_llava_next'}" in card
    (shortened := apart.with_name("shortened")).mkdir()
    shutil.copy(apart / DESCRIPTION, shortened)
    with pytest.raises(FileNotFoundError, match=rf"shortened lacks .*{ADAPTER}.*which ppl.yaml lists"):
        checkpoints.load(shortened)


def test_shards_and_a_full_fine_tuning(folder, tmp_path):
    """Without LoRA there is nothing to merge: the whole model, in files of at most so many bytes."""
    module, path = fit(base(folder), tmp_path / "full", lora=())
    assert export(path, tmp_path / "exported", max_shard_size=300_000)
    shards = sorted((tmp_path / "exported").glob("model-*.safetensors"))
    assert len(shards) > 2
    assert sum(shard.stat().st_size < 400_000 for shard in shards) >= len(shards) - 1
    assert torch.equal(logits(checkpoints.load(tmp_path / "exported")), logits(module))


def test_a_random_base_is_named_by_nobody(tmp_path):
    _, path = fit(None, tmp_path / "run")
    with pytest.raises(ValueError, match=r"got adapters upon weights that no source has.*add --merge"):
        export(path, tmp_path / "apart")
    assert not (tmp_path / "apart").exists()
    export(path, tmp_path / "merged", merge=True)


def test_a_checkpoint_that_holds_all_exports_what_trained(folder, tmp_path):
    """Projector too: what trained is told by the checkpoint, and not by what has gradients when it is exported."""
    module, path = fit(base(folder), tmp_path / "run", "--model.saving.frozen=keep")
    assert not export(path, tmp_path / "apart")
    assert torch.equal(logits(checkpoints.load(tmp_path / "apart")), logits(module))
    assert load_file(tmp_path / "apart" / PROJECTOR).keys()


def test_adapters_upon_another_run_s_weights_name_no_source(folder, tmp_path):
    """Nor does the run that goes on by ``--ckpt_path`` alone, whose backbone is read from the source again."""
    source = base(folder)
    _, first = fit(source, tmp_path / "first", lora=())
    _, path = fit(source, tmp_path / "second", f"--init_from={first}")
    with pytest.warns(UserWarning, match="The dirpath has changed from"):
        module, again = fit(source, tmp_path / "again", f"--ckpt_path={path}", steps=4)
    assert torch.load(again, weights_only=True)["ppl"]["base"] is None
    assert torch.equal(logits(checkpoints.load(again)), logits(module))
    for each in (path, again):
        with pytest.raises(ValueError, match=r"got adapters upon weights that no source has.*--init_from"):
            export(each, tmp_path / "apart")


def test_a_folder_appears_whole_or_not_at_all(run, merged, tmp_path, monkeypatch):
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ValueError, match=r"which exists and is no exported model \(no ppl.yaml\)"):
        export(run[1], target, merge=True, overwrite=True)
    shutil.copy(merged / DESCRIPTION, target)
    (target / "stale").touch()
    with pytest.raises(ValueError, match="which exists; add --force"):
        export(run[1], target, merge=True)
    export(run[1], target, merge=True, overwrite=True)
    assert not (target / "stale").exists()

    def rounded(name):
        def save_pretrained(self, where, **options):
            kept(self, where, **options)
            file = where / "model.safetensors"
            data = bytearray(file.read_bytes())
            data[-1] ^= 1
            file.write_bytes(data)

        return save_pretrained

    kept = type(run[0].model.backbone.hf).save_pretrained
    monkeypatch.setattr(type(run[0].model.backbone.hf), "save_pretrained", rounded(kept))
    with pytest.raises(OSError, match="what was written is not what was to be"):
        export(run[1], tmp_path / "new", merge=True)
    assert [file.name for file in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("size", ["zz", "5", "5 parsecs", "GB", "-1GB"])
def test_a_size_that_is_none_is_told_before_anything_is_read(size, tmp_path):
    with pytest.raises(ValueError, match=f"got --max-shard-size {size}, expected a number and KB, MB, GB or TB"):
        export("none.ckpt", tmp_path / "new", max_shard_size=size)


def test_the_command_says_what_it_did_and_sends_it(run, tmp_path, monkeypatch, capsys):
    sent = []
    monkeypatch.setattr(
        "huggingface_hub.HfApi.create_repo", lambda _, repo_id, **options: sent.append((repo_id, options))
    )
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda _, **options: sent.append(options))
    main(["export", str(run[1]), "-o", str(tmp_path / "new"), "--push-to-hub", "me/new"])
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "adapters and what trained beside them written to" in said
    assert f"ppl chat --checkpoint {tmp_path / 'new'} VIDEO QUESTION" in said
    assert sent == [
        ("me/new", {"exist_ok": True, "private": True}),
        {"repo_id": "me/new", "folder_path": tmp_path / "new"},
    ]
