"""Training data for code models: new instructions from few-shot examples, and code for them."""
