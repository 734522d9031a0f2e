"""One file per command, and the runner they share."""
