"""A trained network and real digits, to run without a download."""
