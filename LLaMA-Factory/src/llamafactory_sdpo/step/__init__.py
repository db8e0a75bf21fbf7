"""One training step: which tokens are scored, what models say of them, and the loss."""
