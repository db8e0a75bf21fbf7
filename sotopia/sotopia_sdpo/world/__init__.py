"""Where sessions take place: scenarios, characters and their combinations, and which of them a task takes."""
