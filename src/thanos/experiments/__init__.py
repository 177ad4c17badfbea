"""The paper's theory, as experiments."""
