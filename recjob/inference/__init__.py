"""From pixels to vectors: engines, export, embedding."""
