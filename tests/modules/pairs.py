"""Pairs of answers about tiny media, for the tiny models."""

from dataclasses import replace

from ppl.datamodules.preference import PairSample, collate_pairs
from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn


def pair_record(media, question, chosen, rejected, number=0):
    text = PLACEHOLDER * len(media) + question
    refs = [MediumRef(medium.kind, medium.key) for medium in media]
    return Record(f"pair {number}", [Turn("user", text), Turn("assistant", chosen)], refs, "any", rejected=rejected)


def pair_samples(model, *pairs, num_frames=4):
    """Samples of (media, question, better answer, worse answer)."""
    processor = Processor(model.input_spec, num_frames=num_frames)
    return [
        PairSample.of(processor, pair_record(*pair, number), processor.prepare(pair[0]))
        for number, pair in enumerate(pairs)
    ]


def pair_batch(model, *pairs):
    return collate_pairs(pair_samples(model, *pairs), model.input_spec)


def alone(record, answer):
    """The record with one answer, as a conversation."""
    return replace(record, turns=[*record.turns[:-1], Turn("assistant", answer)], rejected=None)
