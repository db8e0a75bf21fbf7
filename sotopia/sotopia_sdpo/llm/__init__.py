"""Models: names, calls, retries, endpoints, kept answers, budgets; everything that knows what a request is."""
