"""Benchmarks, the protocols they are asked and marked by, and scores of what was answered; no torch anywhere."""
