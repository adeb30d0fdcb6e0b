"""How a model learns: objective, optimizer, schedule, the loop, its state and its report."""
