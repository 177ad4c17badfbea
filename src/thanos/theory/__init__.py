"""The paper's claims in a form that can be computed."""
