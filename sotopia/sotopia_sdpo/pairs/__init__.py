"""From episodes to preference pairs: sides, negatives, located turns, matched positives, key segments."""
