"""The seams with the host, LLaMA-Factory. No other room imports it.

    seams      the version that works, `seam` to look a name up, `substituted` to replace one for a while
    names      every module and class of the host that we use
    arguments  its arguments with our options, and their checks
    values     the types of a config's values
    rows       a template with tokens that the model lacks
    checkpoints  the last whole one, to go on from
    kept       the files of encoded pairs in the cache, checked
    screen     a line a step in the place of bars and dicts, and one figure
    running    any training: a NaN, a full disk or a missing package ends it in one line
    data       its `get_dataset`, with pairs in the place of records
    stages     its DPO workflow, with our data, collator and trainer
    ray_cluster  its workers on Ray
    install    makes it know our stages; the only file that patches it for good
    webui      its board, with our stages
    serving    its templates as texts, and its own server

To the host our stages are DPO on other labels, which is what they are: `stage: sdpo` becomes `stage: dpo` with
`pair_stage: sdpo` as soon as the arguments are parsed, so every rule of the host for DPO holds for them too.
"""
