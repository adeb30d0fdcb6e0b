"""Speech recognition: sound to text with times, by a model that hears."""
