"""Speed and memory of models beside those of other packages; see README.md."""
