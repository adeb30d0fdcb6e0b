"""How a model is kept: Hugging Face folders in and out, and importers of other formats."""
