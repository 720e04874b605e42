"""One file per benchmark: how its authors' files are read, and the protocols it is asked by."""
