"""The methods: for each its training step."""
