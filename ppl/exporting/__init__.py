"""Checkpoints as folders that others open."""
