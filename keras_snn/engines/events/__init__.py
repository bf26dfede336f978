"""The event-driven engine for the CPU: a spike costs what it reaches, and silence next to nothing."""
