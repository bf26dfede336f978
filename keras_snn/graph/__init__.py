"""What a model means: a graph of few kinds of nodes over NumPy arrays."""
