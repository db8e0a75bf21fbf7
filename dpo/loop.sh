# The loop's settings and what its steps do. Sourced by demo.sh and compare.sh, which say which steps there are.
#
# A setting is a variable: `TRIALS=5 bash dpo/demo.sh`. Everything lies under RUN: database, step files, answers, models,
# logs/, report, results.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

RUN="${RUN:-$root/dpo/data/demo}"

# The world: files for `sotopia db import` with the scenario ids of the stages; none: the demo's own.
IMPORT="${IMPORT:-}"
SPLITS="${SPLITS:-}"

# The models, as litellm names them; simulated/NAME is played by the scripted server. The partner may be `self`, too.
EXPERTS="${EXPERTS:-simulated/gpt-4-turbo simulated/anna}"
PARTNER="${PARTNER:-simulated/gpt-4o}"
EVALUATOR="${EVALUATOR:-simulated/gpt-4o}"
ANNOTATOR="${ANNOTATOR:-simulated/gpt-4o}"
SIMULATE="${SIMULATE:-}"                # more options of the scripted server, such as its faults

# Published SFT data, or your own, in the place of the experts' sessions.
SFT_DATA="${SFT_DATA:-}"

# How much is sampled.
SFT_COMBOS="${SFT_COMBOS:-5}"           # combos of a scenario
SFT_TRIALS="${SFT_TRIALS:-3}"
NEG_COMBOS="${NEG_COMBOS:-5}"
NEG_OPTIONS="${NEG_OPTIONS---max-per-role 5}" # which sessions went badly
TRIALS="${TRIALS:-3}"                   # new sessions of every negative
EVAL_TASK="${EVAL_TASK:-all}"
BATCH="${BATCH:-10}"                    # episodes in flight
LIMIT="${LIMIT:-1000000}"               # at most this many episodes of a step

# Training and serving.
BASE="${BASE:-}"                        # the model to start from; none: a small Llama is made of the SFT data
TEMPLATE="${TEMPLATE:-llama3}"
SFT_CONFIG="${SFT_CONFIG:-$root/LLaMA-Factory/examples/demo/sft.yaml}"
SFT_OPTIONS="${SFT_OPTIONS-per_device_train_batch_size=8 num_train_epochs=4 train_sampling_strategy=group_by_length}"
SDPO_CONFIG="${SDPO_CONFIG:-$root/LLaMA-Factory/examples/demo/sdpo.yaml}"
SDPO_OPTIONS="${SDPO_OPTIONS-learning_rate=5.0e-5 num_train_epochs=4 val_size=0.05}"
SERVE_CONFIG="${SERVE_CONFIG:-$root/LLaMA-Factory/examples/inference/demo_hf.yaml}"

# As train.sh does with the demo's configs: with a second thread so small a model waits for its core more than it gains.
if [ -z "$BASE" ]; then export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"; fi

. "$root/setup.sh"
. "$root/dpo/steps.sh"
claim_run
export SOTOPIA_DB="sqlite:///$RUN/sotopia.db"
base="${BASE:-$RUN/base}"

run() { "$SDPO_PYTHON" "$root/dpo/$1.py" "${@:2}"; }
sotopia() { "$SDPO_PYTHON" -m sotopia_sdpo "$@"; }
model() { # NAME: what the commands call it
    case $1 in
        simulated/*) printf 'custom/%s@%s/' "${1#simulated/}" "$SIMULATION_URL" ;;
        self) printf %s "$AGENT_URL" ;;
        *) printf %s "$1" ;;
    esac
}

needs_simulation() {
    case "$EXPERTS $PARTNER $EVALUATOR $ANNOTATOR" in *simulated/*) ;; *) return ;; esac
    if [ -n "${SIMULATION_URL:-}" ]; then return; fi
    # shellcheck disable=SC2086 (options are words)
    start_server "$RUN/logs/simulate.log" 'listening on ' sotopia simulate --port 0 $SIMULATE
    SIMULATION_URL="$server_url"
}

needs_machine() { # for itself: a server would hold the memory of the GPUs
    stop_all
    serving=""
    unset SIMULATION_URL
}

serving=""
needs_agent() { # MODEL: one agent is served at a time, by the name custom/agent
    if [ "$serving" != "$1" ]; then
        needs_machine
        local port
        port="$("$SDPO_PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
        start_server "$RUN/logs/serve-${1//\//-}.log" 'serving ' bash "$root/inference.sh" "$SERVE_CONFIG" \
            model_name_or_path="$RUN/$1" served_model_name=agent template="$TEMPLATE" port="$port"
        serving="$1"
        AGENT_URL="$server_url"
    fi
    needs_simulation
}

sample() { # TASK TAG MODEL PARTNER [OPTION...]
    local world=(--demo)
    if [ -n "$IMPORT" ]; then world=(${SPLITS:+--splits "$SPLITS"}); fi
    allow_failures sotopia benchmark "${world[@]}" --task "$1" --tag "$2" --models "$3" --partner-model "$4" \
        --evaluator-model "$(model "$EVALUATOR")" --batch-size "$BATCH" --limit "$LIMIT" "${@:5}"
}

evaluate() { sample "$EVAL_TASK" "$1-$chain" "$AGENT_URL" "$(model "$PARTNER")"; } # TAG

train() { # CONFIG MODEL OUTPUT [OPTION...]
    bash "$root/train.sh" "$1" model_name_or_path="$2" output_dir="$3" template="$TEMPLATE" dataset_dir="$RUN" "${@:4}"
}

# ---- the steps

do_world() {
    # shellcheck disable=SC2086 (files are words)
    if [ -n "$IMPORT" ]; then sotopia db import $IMPORT; fi
    sed 's|"\.\./\.\./dpo/data/|"|' "$root/LLaMA-Factory/data/dataset_info.json" >"$RUN/dataset_info.json"
}

do_experts() {
    if [ -n "$SFT_DATA" ]; then return; fi
    local expert name
    for expert in $EXPERTS; do
        name="$(model "$expert")"
        sample sft "experts-$chain-$expert" "$name" "$name" --combos-per-env "$SFT_COMBOS" --trials "$SFT_TRIALS"
    done
}

do_sft_data() {
    local expert tags=()
    if [ -n "$SFT_DATA" ]; then
        cp "$SFT_DATA" "$RUN/sft_data.json"
        return
    fi
    for expert in $EXPERTS; do tags+=(--tag "$(tag_of experts)-$expert"); done
    run sft_data "${tags[@]}"
}

do_sft() {
    if [ -z "$BASE" ]; then
        "$SDPO_PYTHON" -m llamafactory_sdpo.demo.model --out "$base" --data "$RUN/sft_data.json" --width 128 --layers 4
    fi
    # shellcheck disable=SC2086 (options are words)
    train "$SFT_CONFIG" "$base" "$RUN/sft" dataset=sft_data $SFT_OPTIONS
}

do_negatives() { sample neg "negatives-$chain" "$AGENT_URL" "$(model "$PARTNER")" --combos-per-env "$NEG_COMBOS"; }
do_filter() {
    # shellcheck disable=SC2086 (options are words)
    run data_filtering_negative --tag "$(tag_of negatives)" $NEG_OPTIONS
}
do_locate() { allow_failures run locate --model "$(model "$ANNOTATOR")"; }
do_positives() { sample hpos "positives-$chain" "$AGENT_URL" "$(model "$PARTNER")" --trials "$TRIALS"; }
do_pairs() { run data_filtering_positive --tag "$(tag_of positives)"; }
do_segments() { allow_failures run auto_tail --model "$(model "$ANNOTATOR")" && run report preference_data_auto.json; }

steps_to_agent() {
    step world 'the scenarios'
    step experts 'sample the experts' needs_simulation
    step sft_data 'make SFT data of their sessions'
    step sft 'train the SFT agent' needs_machine
}

steps_to_pairs() {
    step negatives 'sample its sessions' needs_agent sft
    step filter 'keep those that went badly'
    step locate 'locate the turns that went wrong' needs_simulation
    step positives 'sample anew from these turns' needs_agent sft
    step pairs 'keep the sessions that went better'
    step segments 'choose the key segments' needs_simulation
}
