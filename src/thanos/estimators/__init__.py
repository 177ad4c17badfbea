"""The methods under scikit-learn's conventions."""
