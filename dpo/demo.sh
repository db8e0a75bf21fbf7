#!/usr/bin/env bash
# The whole loop: sample experts, train an SFT agent, find where it goes wrong, train SDPO on that, compare the two.
#
#   bash dpo/demo.sh                        without keys, GPU or server: scripted experts, and a small Llama made here
#   RUN=/data/one TRIALS=5 bash dpo/demo.sh another run folder, another setting; dpo/loop.sh has them all
#
# Killed and started again, it goes on where it was; where a setting changed, what depends on it is done again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/loop.sh"

do_sft_eval() { evaluate sft_eval; }
do_sdpo() {
    # shellcheck disable=SC2086 (options are words)
    train "$SDPO_CONFIG" "$RUN/sft" "$RUN/sdpo" dataset=preference_data $SDPO_OPTIONS
}
do_sdpo_eval() { evaluate sdpo_eval; }

steps_to_agent
aside sft_eval 'evaluate it' needs_agent sft
steps_to_pairs
step sdpo 'train SDPO' needs_machine
step sdpo_eval 'evaluate it' needs_agent sdpo

run results --arm "sft=$(tag_of sft_eval)" --arm "sdpo=$(tag_of sdpo_eval)" --output "$RUN/results.json"
say "report of the pairs:  $RUN/preference_data_auto.html"
say "loss figures:         $RUN/sft/training_loss.png $RUN/sdpo/training_loss.png"
say "results:              $RUN/results.json"
say "next: open the report; bash dpo/compare.sh (the other methods on the same pairs); change a setting of dpo/loop.sh"
