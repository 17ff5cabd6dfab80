# shellcheck shell=bash
# User-space instructions for each frame of each kind of probe, beside those of a SYN of the same family. An address that is asked
# several questions gets several frames. Sourced by scripts/compare.
# No interface and no privilege: the null link makes every frame, reads it through the gate and digests it.

# The kinds: name, what is excepted from the bar and why (or -), swath's options.
kinds_table() {
    cat <<'TEXT'
syn|-|-p 80
syn, Linux layout|-|-p 80 --layout linux
fin|-|-sF -p 80
null|-|-sN -p 80
xmas|-|-sX -p 80
ack|-|-sA -p 80
window|-|-sW -p 80
maimon|-|-sM -p 80
udp, empty|-|-p U:40125
udp, DNS (two questions)|-|-p U:53
udp, NTP|-|-p U:123
udp, SNMP (three questions)|-|-p U:161
udp, SIP|a payload of text, longer than 200 bytes|-p U:5060
init|CRC32c|-sY -p 80
cookie-echo|CRC32c|-sZ -p 80
ip, one protocol|-|-sO -p 47
ip, SCTP among five protocols|CRC32c|-sO -p 1,2,6,17,132
ip, five protocols|-|-sO -p 1,6,17,47,103
ip, 256 protocols|CRC32c|-sO -p 0-255
echo|-|-sn -PE
timestamp|-|-sn -PP
address mask|-|-sn -PM
ping-syn|-|-sn -PS80
ping-ack|-|-sn -PA80
ping-udp|-|-sn -PU
ping-init|CRC32c|-sn -PY
ping-ip|-|-sn -PO47
udp, 20 ports in one plan|-|-p U:7,9,19,53,67,69,111,123,137,161,177,389,427,500,514,520,1434,1604,1900,5353
TCP and UDP in one plan|-|-p T:80,U:53
four kinds in one plan|no kind but a mixture|-p T:80,U:40125,P:47 -PE
TEXT
}

# kinds_once TARGETS OPTION...: "INSTRUCTIONS PROBES" of a whole run.
kinds_once() {
    local targets=$1 log=$WORK/log-$BASHPID
    shift
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$(swath_binary)" "$targets" "$@" --link null --rate max --wait 0 \
        --control-share 0 --seed 7 -o none: >/dev/null 2>"$log" || return 1
    awk '/Collected/ { instructions = $NF }
        /^probes / { for (i = 1; i < NF; i++) if ($(i + 1) == "sent") { gsub(",", "", $i); sent = $i } }
        END { print instructions + 0, sent + 0 }' "$log"
}

# kinds_slope FEW MANY OPTION...: instructions for each frame between two sizes, so that start and end cancel, and frames for each of
# the 131,072 addresses of the second; "- -" where the kind does not exist in the family.
kinds_slope() {
    local few=$1 many=$2 low high
    shift 2
    if ! low=$(kinds_once "$few" "$@") || ! high=$(kinds_once "$many" "$@"); then
        printf -- '- -\n'
        return
    fi
    printf '%s %s\n' "$low" "$high" |
        awk '{ if ($4 <= $2) print "- -"; else printf "%d %.3g\n", ($3 - $1) / ($4 - $2) + 0.5, $4 / 131072 }'
}

compare_kinds() {
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    local name excepted options other v4 v6 f4 f6 base4='' base6='' row verdict missed=0
    printf '## Instructions: user space, for each frame of each kind, by callgrind\n\n'
    printf '%s, Linux %s; %s. The slope between 16,384 and 131,072 addresses; the bar is 1.60.\n\n' "$(date -u '+%Y-%m-%d %H:%M UTC')" \
        "$(uname -r)" "$("$(swath_binary)" --version)"
    printf '| kind | frames an address | IPv4, a frame | of a SYN | IPv6, a frame | of a SYN | excepted: | verdict |\n|---|---:|---:|---:|---:|---:|---|---|\n'
    while IFS='|' read -r name excepted options; do
        # Both families at once; words, split on purpose.
        # shellcheck disable=SC2086
        kinds_slope 2001:db8:1::/114 2001:db8:1::/111 $options >"$WORK/v6" &
        other=$!
        # shellcheck disable=SC2086
        read -r v4 f4 < <(kinds_slope 198.18.0.0/18 198.18.0.0/15 $options)
        wait "$other"
        read -r v6 f6 <"$WORK/v6"
        base4=${base4:-$v4} base6=${base6:-$v6}
        row=$(awk -v a="$v4" -v b="$base4" -v c="$v6" -v d="$base6" -v f="$f4" -v g="$f6" -v excepted="$excepted" 'BEGIN {
            first = a == "-" ? "-" : sprintf("%.2f", a / b)
            second = c == "-" ? "-" : sprintf("%.2f", c / d)
            within = (first == "-" || a <= 1.6 * b) && (second == "-" || c <= 1.6 * d)
            frames = f == g || g == "-" ? f : f + 0 " + " g + 0
            printf "| %s | %s | %s | %s | %s | %s | %s", frames, a, first, c, second, excepted, within ? "PASS" : excepted != "-" ? "excepted" : "FAIL" }')
        printf '| %s %s |\n' "$name" "$row"
        verdict=${row##* }
        [[ $verdict != FAIL ]] || missed=1
    done < <(kinds_table)
    printf '\nA SYN over IPv6 is %s of one over IPv4.\n' "$(awk -v a="$base6" -v b="$base4" 'BEGIN { printf "%.2f", a / b }')"
    return "$missed"
}
