"""A pooler is found by its name or its path."""

from pathlib import Path

import pytest

from ppl.modules.poolers.average import AveragePooler
from ppl.serving.pooler_files import pooler_file, pooler_files
from ppl.serving.variants import read_pooler
from tests.modules.tiny import ROOT


def test_the_recipes_poolers_have_names_from_any_folder(in_tmp_path):
    assert set(pooler_files()) == {path.stem for path in (ROOT / "recipes/parts/poolers").glob("*.yaml")}
    assert isinstance(read_pooler(pooler_file("average")), AveragePooler)


def test_the_user_s_own_recipes_come_first(in_tmp_path):
    own = Path("recipes/parts/poolers/average.yaml")
    own.parent.mkdir(parents=True)
    own.write_text((ROOT / "recipes/parts/poolers/max.yaml").read_text())
    assert pooler_file("average") == own
    assert pooler_file("max") == ROOT / "recipes/parts/poolers/max.yaml"


def test_a_path_is_taken_as_it_is():
    assert pooler_file("somewhere/mine.yaml") == Path("somewhere/mine.yaml")


def test_an_unknown_name_brings_the_nearest():
    with pytest.raises(
        ValueError, match=r"got pooler 'avarage' \(perhaps average\?\), expected a file like .*weighted"
    ):
        pooler_file("avarage")
