"""One session: actions, how an agent sees the dialogue, upstream's stage, and playing an episode on it."""
