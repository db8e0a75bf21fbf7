"""From a file to token ids: records -> two sides -> a pair -> cached rows -> tokens. Knows nothing of the host."""
