"""One session: actions, the chat an agent sees, upstream's stage, playing it. Imports world and below."""
