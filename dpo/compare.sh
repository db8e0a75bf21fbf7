#!/usr/bin/env bash
# The methods side by side: from one SFT agent and its negatives, trains each on its own data and evaluates it.
#
#   bash dpo/compare.sh                         goes on from what dpo/demo.sh has made, or makes it
#   SEEDS="1 2 3 4 5" TRIALS=5 bash dpo/compare.sh
#
# Ends with a table in the shape of the paper's: methods first, then segment lengths. Killed and started again, it goes
# on where it was. Settings: below, and those of dpo/loop.sh.
set -euo pipefail
if [ -z "${SERVE_CONFIG:-}" ] && [ -d "$(dirname "${BASH_SOURCE[0]}")/../.venv-vllm" ]; then
    SERVE_CONFIG="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/LLaMA-Factory/examples/inference/demo_vllm.yaml"
fi
. "$(dirname "${BASH_SOURCE[0]}")/loop.sh"

ARMS="${ARMS:-preferred_sft dpo eto dmpo sdpo sdpo_3 sdpo_rest}"
SEEDS="${SEEDS:-1 2 3}"                 # each: one training and one evaluation; of the SFT agent, one evaluation
PAIR_OPTIONS="${PAIR_OPTIONS-$SDPO_OPTIONS}" # of all methods that train on pairs, as in the paper
PREFERRED_SFT_OPTIONS="${PREFERRED_SFT_OPTIONS-learning_rate=2.5e-4 num_train_epochs=3}" # 5 times theirs, as in the paper

what_trains() { # ARM: sets $what, its stage and data
    case $1 in
        preferred_sft) what=(stage=sft dataset=positive_data) ;;
        dpo) what=(stage=sdpo segment_scope=turn dataset=preference_data) ;; # segments of length 1
        eto | dmpo) what=("stage=$1" dataset=eto_data) ;;
        sdpo) what=(stage=sdpo dataset=preference_data) ;;
        sdpo_3 | sdpo_rest) what=(stage=sdpo dataset=preference_data "dataset_dir=$RUN/${1#sdpo_}") ;;
        *) say "error: ARMS: no arm is named $1" >&2 && exit 2 ;;
    esac
}
for arm in $ARMS; do what_trains "$arm"; done

do_sessions() { sample pos "sessions-$chain" "$AGENT_URL" "$(model "$PARTNER")" --trials "$TRIALS"; }
do_eto_pairs() { run data_filtering_positive --pairs eto --tag "$(tag_of sessions)"; }
do_cut() { # LENGTH
    mkdir -p "$RUN/$1"
    cp "$RUN/dataset_info.json" "$RUN/$1"
    run auto_tail --length "$1" --output "$RUN/$1/preference_data_auto.json"
}
do_train() { # ARM SEED
    local config="$SDPO_CONFIG" options="$PAIR_OPTIONS"
    if [ "$1" = preferred_sft ]; then config="$SFT_CONFIG" options="$PREFERRED_SFT_OPTIONS"; fi
    what_trains "$1"
    # shellcheck disable=SC2086 (options are words)
    train "$config" "$RUN/sft" "$RUN/compare/$1-$2" seed="$2" $options "${what[@]}"
}
do_eval() { evaluate "eval-$1-$2"; } # ARM SEED

steps_to_agent
steps_to_pairs
step sessions 'sample whole sessions' needs_agent sft
step eto_pairs 'keep those that went better'
step cut.3 'cut segments of length 3'
step cut.rest 'cut segments to the end'
for seed in $SEEDS; do
    aside "eval.sft.$seed" "SFT, evaluation $seed" needs_agent sft
done
for seed in $SEEDS; do
    for arm in $ARMS; do
        before=$chain
        step "train.$arm.$seed" "$arm, seed $seed: train" needs_machine
        step "eval.$arm.$seed" "$arm, seed $seed: evaluate" needs_agent "compare/$arm-$seed"
        chain=$before
    done
done

arms=()
for arm in sft $ARMS; do
    tags=""
    for seed in $SEEDS; do tags+="${tags:+,}eval-$arm-$seed-$(cat "$RUN/done/eval.$arm.$seed")"; done
    arms+=(--arm "$arm=$tags")
done
run results "${arms[@]}" --output "$RUN/compare.json"
say "results: $RUN/compare.json"
