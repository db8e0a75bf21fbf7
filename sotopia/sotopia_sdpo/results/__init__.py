"""From scores to tables: means with clustered intervals, and paired differences of two runs."""
