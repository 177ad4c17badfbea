"""What turns an image into an embedding, and what stands on it while it trains."""
