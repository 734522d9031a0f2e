"""The command line; `main` runs it."""

from recjob.cli.app import app, main

__all__ = ["app", "main"]
