"""Episodes in any Redis, and the documents that upstream wrote into a redis-stack."""
