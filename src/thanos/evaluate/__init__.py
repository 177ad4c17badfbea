"""Scores of frozen embeddings."""
