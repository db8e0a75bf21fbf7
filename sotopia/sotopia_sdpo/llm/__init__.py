"""Models: names, calls, retries, endpoints, kept answers, budgets. Imports no other room."""
