# shellcheck shell=bash
# Instruments for scripts/compare: what left the scanner and how fast, read in the far namespace, the same way for every scanner.
# Never from what a scanner says about itself. Sourced after lab.sh, inside `lab with`.

# Counts SYNs as they arrive in far (not the kernel's RSTs behind them).
meter_on() {
    nft_table swath_meter <<'RULES'
table netdev swath_meter {
    counter syns { }
    chain ingress {
        type filter hook ingress device "far0" priority -20; policy accept;
        tcp flags & (syn | ack | rst) == syn counter name syns
    }
}
RULES
}
meter_off() { nft_remove swath_meter; }
meter_count() { nft_packets swath_meter syns; }

# sampler_start FILE: samples frames received by far0 every 5 ms, one line "MICROSECONDS FRAMES" per change, until sampler_stop.
sampler_start() {
    # shellcheck disable=SC2016 # expands in the inner shell
    exec_in_far bash -c '
        exec {fd}<> <(:)
        last= stop=
        trap "stop=1" TERM
        while [[ -z $stop ]]; do
            while read -r name _ frames _; do
                [[ $name == far0: ]] || continue
                [[ $frames == "$last" ]] || printf "%s %s\n" "${EPOCHREALTIME/[.,]/}" "$frames"
                last=$frames
            done </proc/net/dev
            read -r -t 0.005 -u "$fd" || true
        done' >"$1" &
    SAMPLER=$!
    sleep_ms 100
}

sampler_stop() {
    kill -s TERM "$SAMPLER"
    wait "$SAMPLER" || true
}

# sampled_rate FILE SENT: probes a second in the middle 96 % of what was sent, so that neither the start of a scanner nor its wait at the
# end counts. Frames that are not probes (RSTs) only scale the count; SENT is how many probes there were.
sampled_rate() {
    awk -v sent="$2" '
        NR == 1 { base = $2 }
        { time[NR] = $1; frames[NR] = $2 - base }
        END {
            total = frames[NR]
            for (i = 1; i <= NR; i++) {
                if (!first && frames[i] >= total * 0.02) first = i
                if (frames[i] <= total * 0.98) last = i
            }
            if (total == 0 || last <= first) { print 0; exit }
            printf "%d\n", sent * (frames[last] - frames[first]) / total / ((time[last] - time[first]) / 1000000)
        }' "$1"
}

# One frame to near every 200 ms. Without it masscan 1.3.2 never ends on a quiet wire: its receiver sleeps until a packet comes.
heartbeat_start() {
    # shellcheck disable=SC2016 # expands in the inner shell
    exec_in_far bash -c 'exec {fd}<> <(:); while read -r -t 0.2 -u "$fd" || true; do echo >/dev/udp/192.0.2.1/9; done' 2>/dev/null &
    HEARTBEAT=$!
}
heartbeat_stop() {
    kill -s TERM "$HEARTBEAT" 2>/dev/null || true
    wait "$HEARTBEAT" 2>/dev/null || true
}

# spread: "median (min-max)" of the numbers on stdin.
spread() { sort -n | awk '{ v[NR] = $1 } END { if (NR == 0) { print "-"; exit } printf "%s (%s-%s)\n", v[int((NR + 1) / 2)], v[1], v[NR] }'; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# ratio A B: A/B with two decimals.
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b == 0) print "-"; else printf "%.2f\n", a / b }'; }

machine_line() {
    printf '%s, Linux %s, %s, %s processors\n' "$(date -u '+%Y-%m-%d %H:%M UTC')" "$(uname -r)" \
        "$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)" "$(nproc)"
}
