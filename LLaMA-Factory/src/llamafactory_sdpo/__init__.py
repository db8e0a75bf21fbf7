"""Segment-level DPO (SDPO), ETO and DMPO as training stages of LLaMA-Factory, the host.

A pair passes through the rooms in this order:

    data/      a file -> records -> pairs -> cached rows -> tokens
    step/      rows -> masks -> log-probabilities -> loss
    host/      the seams through which the host runs these; the only room that imports it
    screen/    what a training shows, line by line
    serving/   a trained model behind a server, prompted as in training

Imports point up in this list, never down:

    errors, stages, config_file, places, entries, hidden, whole_files
    screen
    data
    arguments, memory
    host.seams, host.names
    step
    host
    serving
    launcher, demo
    check
    train, inference, load_adapter, cli, worker
"""
