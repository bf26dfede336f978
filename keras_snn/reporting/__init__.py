"""Showing results: the report, its page, plots and TensorBoard."""
