"""The whole loop on one machine: which steps it has, their settings, and what is shown of them."""
