"""Like make: steps that are done once, and again when what they depend on has changed; and the servers they need."""
