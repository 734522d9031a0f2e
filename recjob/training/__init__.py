"""Recipes that make models from a catalog and its pixels."""
