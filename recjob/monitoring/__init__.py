"""Measurements of a running job."""
