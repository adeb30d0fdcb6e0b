"""Why did it say that? What flows through a model, measured: traces, lenses, attribution, causal tests."""
