"""What limits cost: the loops of `benchmarks.ours` with budgets and policies, beside themselves."""
