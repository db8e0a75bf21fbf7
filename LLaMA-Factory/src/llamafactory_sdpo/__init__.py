"""Segment-level DPO (SDPO), ETO and DMPO as training stages of LLaMA-Factory, the host.

A pair passes through the rooms in this order:

    data/      a file -> records -> pairs -> cached rows -> tokens
    step/      rows -> masks -> log-probabilities -> loss
    host/      the seams through which the host runs these; the only room that imports it
    serving/   a trained model behind a server, prompted as in training

Imports point up in this list, never down:

    errors, stages, config_file, entries
    data
    arguments
    host.seams, host.names
    step
    host
    serving
    launcher, demo
    train, inference, cli, worker
"""
