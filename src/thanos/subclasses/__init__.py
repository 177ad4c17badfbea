"""The hidden subclasses: how they are found."""
