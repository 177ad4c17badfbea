"""What a run learned and what a person made of it, for other programs."""
