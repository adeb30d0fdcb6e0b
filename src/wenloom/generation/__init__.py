"""How a model writes: requests, token selection, strategies, grammars and the engine."""
