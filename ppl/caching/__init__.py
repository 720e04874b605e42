"""Filling a folder with the features of a recipe's media, before it trains."""
