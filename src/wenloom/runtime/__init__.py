"""How a model is computed fast: a runner of many texts at once, its compiled step, threads, slots and known prefixes."""
