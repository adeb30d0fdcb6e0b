"""What a model is for: data formats, training recipes, and how its answers are asked for and measured."""
