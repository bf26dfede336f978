"""Comparing spiking networks with their source networks, and counting."""
