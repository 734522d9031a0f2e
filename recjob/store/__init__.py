"""Postgres and the artifact folder. No torch."""
