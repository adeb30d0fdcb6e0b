"""How a model writes: requests, sampling and the decoding loop."""
