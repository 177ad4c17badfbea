"""From files to ImageSet, and from ImageSet to batches."""
