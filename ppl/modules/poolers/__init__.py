"""Ways to reduce a patch grid to fewer tokens; one file per pooler."""
