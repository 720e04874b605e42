"""A small world of moving coloured shapes, on which the whole chain learns in minutes."""
