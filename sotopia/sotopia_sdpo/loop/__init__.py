"""The whole loop on one machine: its steps, what they depend on, and the servers they need."""
