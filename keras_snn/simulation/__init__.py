"""How a spiking network runs and is watched."""
