"""One run: Lightning's Trainer around a method's step."""
