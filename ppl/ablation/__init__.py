"""``ppl ablate``: a grid of recipes x seeds, trained, tested, measured and reported."""
