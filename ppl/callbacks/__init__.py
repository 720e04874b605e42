"""Lightning callbacks that every run gets."""
