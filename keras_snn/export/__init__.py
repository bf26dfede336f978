"""How a network leaves Keras, and how one comes in."""
