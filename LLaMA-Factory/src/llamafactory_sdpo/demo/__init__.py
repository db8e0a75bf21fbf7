"""The model of the laptop demo: its tokenizer and a randomly initialised Llama, without any download."""
