"""The scripts of dpo/, a module each: its options, and what it does with the files."""
