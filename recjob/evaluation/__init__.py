"""Metrics and the evaluation protocol."""
