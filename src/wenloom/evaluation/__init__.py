"""How good is it? The probability of a text."""
