import pytest
import yaml

from ppl.ablation.spec import read_ablation

SMALL = {
    "name": "small",
    "title": "Small",
    "base": "recipes/experiments/tiny_sft.yaml",
    "rows": {"weighted": {"arguments": ["--model.pool_site=post_projector"], "published": "53.6 (v2 Table 5)"}},
}


@pytest.fixture
def written(tmp_path):
    def write(**changes):
        path = tmp_path / "ablation.yaml"
        path.write_text(yaml.safe_dump({**SMALL, **changes}))
        return path

    return write


def test_rows_come_with_both_controls(written):
    ablation = read_ablation(written())
    assert list(ablation.all_rows()) == ["weighted", "average", "random"]
    assert ablation.all_rows()["weighted"].published == "53.6 (v2 Table 5)"
    assert ablation.seeds == [0, 1, 2]


def test_a_control_can_be_set_and_not_left_out(written):
    ablation = read_ablation(written(random={"arguments": ["--model.pooler.init_args.keep=16"]}))
    assert ablation.all_rows()["random"].arguments == ["--model.pooler.init_args.keep=16"]
    with pytest.raises(ValueError, match=r"rows named \['random'\], which are the controls; set them as average: and"):
        read_ablation(written(rows={"random": {}}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rowz": {}}, r"ablation.yaml: got the keys \['rowz'\], expected some of \['name', 'title', 'base', 'rows'"),
        ({"seeds": "x"}, r"ablation.yaml: (.|\n)*ablation.seeds(.|\n)*Got value: x"),
        ({"rows": {"weighted": {"argument": []}}}, r"(.|\n)*Option 'argument' is not accepted"),
        ({"seeds": [0, 0]}, r"got the seeds \[0, 0\], expected each once"),
        ({"rows": {}}, "got 0 rows and 3 seeds, expected at least one of each"),
        ({"rows": {"a/b": {}}}, r"got the name 'a/b', expected letters, digits and _ . \+ -: it becomes a folder"),
    ],
)
def test_what_is_wrong_is_named(written, changes, message):
    with pytest.raises(ValueError, match=message):
        read_ablation(written(**changes))


def test_no_file_and_no_mapping(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.yaml, which does not exist in .*`ppl recipes` lists the"):
        read_ablation(tmp_path / "none.yaml")
    for content in (b"", b"- a", b"a: [", b"\xff"):
        (tmp_path / "list.yaml").write_bytes(content)
        with pytest.raises(ValueError, match=r"which holds no .* expected a mapping with name, title, base and rows"):
            read_ablation(tmp_path / "list.yaml")
