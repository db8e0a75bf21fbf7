"""Give the laptop demo its own dialogues, tokenizer and randomly initialised Llama, without any download."""
