"""From annotation files and media to batches."""
