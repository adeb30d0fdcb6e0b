"""Weights in 8 bits or fewer in a model folder: our own format both ways, and those of others read."""
