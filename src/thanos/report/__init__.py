"""Results and embeddings as one self-contained page."""
