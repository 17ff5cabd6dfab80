# shellcheck shell=bash
# What scanners miss and repeat: every SYN that arrives at far is captured, and the targets are counted. For scripts/compare.
# Each case plans 1,024 addresses and one port (the last: 4 addresses, 3 ports); "missed" are planned targets that no SYN
# came for, "repeated" SYNs beyond those that were asked for.

readonly EXACT_RANGE=198.18.4.0/22 EXACT_SIZE=1024

compare_exactness() {
    printf '## Exactness: targets missed and probes repeated, of what was asked for\n\n'
    printf '%s; %s\n\n' "$(machine_line)" "$(TOOLS='swath masscan zmap' versions exactness)"
    printf '| case | tool | probes asked for | SYNs at the far end | targets missed | probes repeated |\n|---|---|---|---|---|---|\n'
    local tool
    for tool in swath masscan; do exact_case "one retry" "$tool" $((2 * EXACT_SIZE)) 2 exact_retry; done
    for tool in swath masscan; do exact_case "shard 2/4 interrupted and resumed" "$tool" $((EXACT_SIZE / 4)) 1 exact_resume; done
    for tool in swath masscan zmap; do exact_case "two shards at two rates" "$tool" "$EXACT_SIZE" 1 exact_rates; done
    for tool in swath masscan; do exact_case "list of 4 addresses, 3 ports" "$tool" 12 1 exact_list; done
}

# exact_case NAME TOOL ASKED EACH COMMAND: EACH is how often every target is to be probed.
exact_case() {
    local name=$1 tool=$2 asked=$3 each=$4 command=$5 capture
    rm -rf "$WORK/exact"
    mkdir "$WORK/exact"
    # Not by a function: the number must be tcpdump's own, so that it writes its last frames when it is ended.
    ip netns exec "$FAR" tcpdump -i far0 -nn -U -w "$WORK/exact/pcap" --immediate-mode 'tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn' 2>"$WORK/exact/log" &
    capture=$!
    until grep -q listening "$WORK/exact/log"; do sleep_ms 20; done
    (cd "$WORK/exact" && "$command" "$tool") >"$WORK/exact/out" 2>&1 || { cat "$WORK/exact/out" >&2; note "compare: $tool failed at '$name'"; }
    sleep 1
    kill "$capture"
    wait "$capture" 2>/dev/null || true
    tshark -r "$WORK/exact/pcap" -T fields -e ip.dst -e tcp.dstport 2>/dev/null | sort | uniq -c |
        awk -v name="$name" -v tool="$tool" -v asked="$asked" -v each="$each" '
            { syns += $1; targets++; if ($1 > each) repeated += $1 - each }
            END { printf "| %s | %s | %d | %d | %d | %d |\n", name, tool, asked, syns, asked / each - targets, repeated }'
}

exact_swath() { "$REPOSITORY/scripts/lab" exec "$(swath_binary)" --wait 1 --control-share 0 -e near0 --quiet "$@" </dev/null; }
exact_masscan() {
    "$REPOSITORY/scripts/lab" exec timeout 60 masscan --wait 1 -e near0 --source-ip 192.0.2.1 --router-mac "$FAR_MAC" -oL masscan.out "$@" </dev/null
}
exact_zmap() {
    "$REPOSITORY/scripts/lab" exec timeout 60 zmap -C "$WORK/empty" -b "$WORK/empty" -p 80 -i near0 -G "$FAR_MAC" -S 192.0.2.1 -c 1 -q -v 0 \
        --disable-syslog -o zmap.out "$@" </dev/null
}

exact_retry() {
    case $1 in
    swath) exact_swath "$EXACT_RANGE" -p 80 --rate 2k --retries 1 --pass-gap 0.2 -o a.csv ;;
    masscan) exact_masscan "$EXACT_RANGE" -p80 --rate 2000 --retries 1 --seed 7 ;;
    esac
}

# Interrupted half-way through, then resumed as each tool says.
exact_resume() {
    local pid
    case $1 in
    swath)
        exact_swath "$EXACT_RANGE" -p 80 --rate 100 --seed 7 --shard 2/4 -o a.csv &
        pid=$!
        sleep 1.3
        exact_interrupt swath "$pid"
        "$REPOSITORY/scripts/lab" exec "$(swath_binary)" resume a.csv.swath --rate 1k
        ;;
    masscan)
        exact_masscan "$EXACT_RANGE" -p80 --rate 100 --seed 7 --shards 2/4 &
        pid=$!
        sleep 2.5
        exact_interrupt masscan "$pid"
        "$REPOSITORY/scripts/lab" exec timeout 60 masscan --resume paused.conf --wait 1 --router-mac "$FAR_MAC" </dev/null
        ;;
    esac
}

# The scanner is below the shell and lab that were started: the first process of that name among the children's children.
exact_interrupt() {
    local name=$1 parent=$2 child
    for child in $(pgrep -P "$parent") $(pgrep -P "$(pgrep -P "$parent" | head -n 1)" 2>/dev/null) "$parent"; do
        if [[ $(cat "/proc/$child/comm" 2>/dev/null) == "$name" ]]; then kill -INT "$child"; fi
    done
    wait "$parent" 2>/dev/null || true
}

exact_rates() {
    case $1 in
    swath)
        exact_swath "$EXACT_RANGE" -p 80 --seed 7 --shard 1/2 --rate 1000 -o a.csv
        exact_swath "$EXACT_RANGE" -p 80 --seed 7 --shard 2/2 --rate 1001 -o b.csv
        ;;
    masscan)
        exact_masscan "$EXACT_RANGE" -p80 --seed 7 --shards 1/2 --rate 1000
        exact_masscan "$EXACT_RANGE" -p80 --seed 7 --shards 2/2 --rate 1001
        ;;
    zmap)
        exact_zmap "$EXACT_RANGE" --seed 7 --shards 2 --shard 0 -r 1000 -T 1
        exact_zmap "$EXACT_RANGE" --seed 7 --shards 2 --shard 1 -r 1001 -T 2
        ;;
    esac
}

exact_list() {
    printf '198.18.4.%s\n' 1 2 3 4 >list
    case $1 in
    swath) exact_swath -iL list -p 22,80,443 --rate 100 -o a.csv ;;
    masscan) exact_masscan -iL list -p22,80,443 --rate 100 --seed 7 ;;
    esac
}
