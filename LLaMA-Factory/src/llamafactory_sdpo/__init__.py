"""Segment-level DPO (SDPO), ETO and DMPO as training stages of LLaMA-Factory.

Data flows one way: records (a file) -> pairs (two dialogues and what is scored) -> encoding (token ids) ->
collator (the masks) -> scoring (log-probabilities) -> trainer (the loss). `register` is the only module that touches
the host; `train`, `cli` and `worker` are the ways in.
"""
