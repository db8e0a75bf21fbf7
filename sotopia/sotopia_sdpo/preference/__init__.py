"""From episodes to preference pairs: what the scripts of dpo/ share."""
