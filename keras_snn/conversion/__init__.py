"""How a graph becomes spiking."""
