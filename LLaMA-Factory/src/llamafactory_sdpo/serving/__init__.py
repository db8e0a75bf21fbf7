"""Serving a trained model with the prompt it was trained on.

Data flows one way: config (a YAML) -> prompting (tokenizer, chat template, defaults as files) -> vllm or host_server
(a server's command) -> processes (start, wait, stop) -> probe (compare the prompts with training's).
"""
