"""A scripted model server for tests and trials: agents, partners and evaluators without any model."""
