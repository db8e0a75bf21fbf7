"""What is stored, for people to look at: an episode, the runs, two runs beside each other."""
