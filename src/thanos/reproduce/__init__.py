"""The paper's experiments: plans of paired runs, their controls, their tables."""
