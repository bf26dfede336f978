"""Engines: how a network of layers runs over time, given its input and what to keep."""
