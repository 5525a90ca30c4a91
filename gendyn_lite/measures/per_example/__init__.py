"""The engine behind several measures: one pass over a batch that gives what each example's gradient is made of."""
