# What the loop is made of: steps that are done once, and servers that end with the script. Sourced, not run.
#
# A step NAME is a function do_NAME; NAME.A.B is do_NAME with the arguments A and B. It is done again when its text, a
# setting that it names (a variable in capitals), or a step before it has changed; otherwise not. Its text is that of the
# functions it calls, too. Its output goes to $RUN/logs/NAME.log.

chain=""  # names the state after the steps so far
number=0
processes=() # groups that end with this script

say() { printf '%s\n' "$*"; }
clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }
tag_of() { printf '%s-%s' "$1" "$(cat "$RUN/done/$1")"; } # under which a step that is done has sampled
allow_failures() { "$@" || return $(($? == 3 ? 0 : $?)); } # 3: some episodes or answers failed, and are counted

claim_run() { # $RUN for this script alone, and end what one that was killed has left behind there
    local process started group
    mkdir -p "$RUN/done" "$RUN/logs"
    RUN="$(cd "$RUN" && pwd)"
    touch "$RUN/script" "$RUN/groups"
    if read -r process started <"$RUN/script" && [ -n "$started" ] && [ "$(start_of "$process")" = "$started" ]; then
        say "error: $RUN: process $process is at work here; wait for it, or set another RUN" >&2
        exit 2
    fi
    export SDPO_HOME="$RUN" # the data folder of all that is started here; it tells which groups are ours, too
    while read -r group; do
        if is_ours "$group"; then kill -- "-$group" 2>/dev/null || true; fi
        while is_ours "$group"; do sleep 0.2; done
    done <"$RUN/groups"
    : >"$RUN/groups"
    printf '%s %s\n' $$ "$(start_of $$)" >"$RUN/script"
}

start_of() { ps -o lstart= -p "$1" 2>/dev/null || true; } # a process number is used again, but not at the same time
is_ours() { # GROUP: has it a process of this run?
    local process
    for process in $(pgrep -g "$1" 2>/dev/null); do
        if tr '\0' '\n' 2>/dev/null <"/proc/$process/environ" | grep -qxF "SDPO_HOME=$RUN"; then return 0; fi
    done
    return 1
}

step() { # NAME 'what it does' [COMMAND that starts what it needs...]
    local name=$1 what=$2 text key settings="" started=$SECONDS code=0 call
    shift 2
    number=$((number + 1))
    IFS=. read -ra call <<<"do_$name"
    text="$name $(text_of "${call[0]}")"
    for key in $(grep -oE '\$\{?[A-Z][A-Z_]+' <<<"$text" | tr -d '${' | sort -u); do
        # Where and how fast something runs changes nothing.
        case $key in RUN | BATCH | SDPO_PYTHON | *_URL) ;; *) settings+="$key=${!key-} " ;; esac
    done
    chain="$(printf '%s\n' "$chain" "$text" "$settings" | cksum | cut -d' ' -f1)"
    printf '%2d  %-46s ' "$number" "$what"
    if [ "$(cat "$RUN/done/$name" 2>/dev/null)" = "$chain" ]; then
        say "done before"
        return
    fi
    rm -f "$RUN/done/$name"
    "$@"
    # In the background, where `set -e` holds; it does not in what || looks at.
    in_background "${call[@]}" >"$RUN/logs/$name.log" 2>&1
    wait $! || code=$?
    if [ "$code" -ne 0 ]; then
        say "failed, exit code $code"
        tail -n 5 "$RUN/logs/$name.log" >&2
        say "all of it: $RUN/logs/$name.log; the same command goes on from here" >&2
        exit "$code"
    fi
    printf %s "$chain" >"$RUN/done/$name"
    say "$(clock $((SECONDS - started)))  $(outcome "$name")"
}

aside() { # like step, but no later one depends on it
    local kept=$chain
    step "$@"
    chain=$kept
}

text_of() { # a function, and all that it calls
    local left=("$1") seen=" " name word
    while [ ${#left[@]} -gt 0 ]; do
        name=${left[0]}
        left=("${left[@]:1}")
        case $seen in *" $name "*) continue ;; esac
        seen+="$name "
        declare -f "$name"
        for word in $(declare -f "$name" | grep -oE '[a-z_]+' | sort -u); do
            if declare -F "$word" >/dev/null; then left+=("$word"); fi
        done
    done
}

in_background() { # COMMAND...: in a process group of its own, so that all that it starts can be ended with it
    set -m
    (set -e && "$@") &
    set +m
    processes+=($!)
    say $! >>"$RUN/groups"
}

outcome() { # the line of a step's log that says what came of it
    sed 's/.*\r//' "$RUN/logs/$1.log" | grep -E '^(kept |held-out |[0-9]+ of [0-9]+ episodes scored)' | tail -n 1 |
        sed -E 's/ -> .*//; s/: [0-9,]+ answers.*//' | cut -c1-88 || true
}

start_server() { # LOG PATTERN COMMAND...: waits for a line that begins with PATTERN; the rest of it is $server_url
    local log=$1 pattern=$2 process
    shift 2
    in_background "$@" >"$log" 2>&1
    process=$!
    until server_url="$(sed -n "s|^$pattern||p" "$log" | head -n 1)" && [ -n "$server_url" ]; do
        if ! kill -0 "$process" 2>/dev/null; then
            say "a server ended" >&2
            tail -n 5 "$log" >&2
            say "all of it: $log" >&2
            exit 1
        fi
        sleep 0.2
    done
}

stop_all() { # the last first, so that nobody waits for an answer of a server that is gone
    local number tenth
    for ((number = ${#processes[@]} - 1; number >= 0; number--)); do
        kill -- "-${processes[number]}" 2>/dev/null || continue
        for ((tenth = 0; tenth < 200; tenth++)); do
            lives "${processes[number]}" || break
            sleep 0.1
        done
        kill -9 -- "-${processes[number]}" 2>/dev/null || true
    done
    processes=()
}
lives() { ps -eo pgid=,stat= | awk -v group="$1" '$1 == group && $2 !~ /^Z/ { found = 1 } END { exit !found }'; } # GROUP
trap stop_all EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
