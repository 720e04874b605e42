"""Bins, and lists that are cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ppl.inspection.reading import Fault
from ppl.inspection.report import histogram, show_faults


@settings(deadline=None, max_examples=25)
@given(values=st.lists(st.integers(0, 10_000), min_size=1, max_size=200))
def test_bins_hold_what_lies_in_them(values):
    counts, edges = histogram(np.array(values))
    assert counts == [sum(low <= value < high for value in values) for low, high in pairwise(edges)]
    assert sum(counts) == len(values)
    assert len(counts) <= 10
    assert len(set(np.diff(edges))) == 1


def test_long_lists_say_where_the_rest_is(tmp_path):
    console = Console(record=True, width=80, file=(tmp_path / "out").open("w"))
    faults = [Fault(f"a.jsonl:{n}", "", "", "got [1, 2]; expected 3") for n in range(60)]
    show_faults(console, faults, None)
    show_faults(console, faults, tmp_path / "report.jsonl")
    console.file.close()
    lines = console.export_text().splitlines()
    assert lines[0] == "a.jsonl:0: got [1, 2]; expected 3"
    assert lines[50:52] == ["and 10 more; --report FILE writes them all", "60 faults in 60 records"]
    assert lines[102].startswith(f"and 10 more; {tmp_path}/report.jsonl has them all")
