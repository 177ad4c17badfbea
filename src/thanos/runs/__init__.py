"""Run directories: their files, and what an encoder leaves in them."""
