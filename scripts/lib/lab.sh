# shellcheck shell=bash
# The lab: two network namespaces joined by one veth pair and by nothing else.
#
#   near (scanners run here)                       far (answers as the Internet would)
#   near0 192.0.2.1/24 2001:db8::1/64  <=======>   far0 192.0.2.2/24 2001:db8::2/64
#   198.18.0.0/15, 2001:db8:1::/64 via far0        local routes: its kernel owns all of these addresses
#   203.0.113.0/24 on-link (ARP per address)       nginx on 80 and 443, sshd on 22, on every address
#
# No uplink, no default route, no forwarding: a frame has nowhere else to go. State of a running lab (process ids, server
# configuration, logs) is in /run/swath-lab/NAME, beside the namespaces that iproute2 keeps in /run/netns.
# Sourced after common.sh; SWATH_LAB names the lab.

readonly LAB=${SWATH_LAB:-swath}
readonly NEAR=$LAB-near FAR=$LAB-far
readonly LAB_BASE=/run/swath-lab
readonly LAB_DIR=$LAB_BASE/$LAB
# What one lab answers for; demo and compare check that it is what they scan.
readonly LAB_SWEEP=198.18.0.0/15
# Devices that some kernels put into every new namespace (tunnel fallbacks). They carry nothing while they are down.
readonly KERNEL_DEVICES=' tunl0 sit0 ip6tnl0 gre0 gretap0 erspan0 ip6gre0 ip_vti0 ip6_vti0 teql0 ifb0 ifb1 bond0 dummy0 '

PATH=$PATH:/usr/sbin:/sbin

lab_need_root() {
    is_root || die "'$1' needs root. Without root, where user namespaces are allowed: scripts/lab run COMMAND..."
    [[ $LAB =~ ^[A-Za-z0-9_-]{1,32}$ ]] || die "SWATH_LAB must be 1 to 32 of A-Z a-z 0-9 _ -" "$EXIT_USAGE"
}

lab_need_commands() {
    need_commands ip:iproute2 nft:nftables ethtool:ethtool ss:iproute2 nginx:nginx-light sshd:openssh-server \
        ssh-keygen:openssh-client sysctl:procps
}

in_near() { ip netns exec "$NEAR" "$@"; }
in_far() { ip netns exec "$FAR" "$@"; }
# In the background, instead of the shell that would wait for it: a signal to $! is then for the command itself.
exec_in_far() { exec ip netns exec "$FAR" "$@"; }
lab_is_up() { [[ -e $LAB_DIR/up && -e /run/netns/$NEAR && -e /run/netns/$FAR ]]; }
lab_need_up() {
    lab_need_root "$1"
    lab_is_up || die "lab '$LAB' is down (scripts/lab up)"
}

# --- Up ---------------------------------------------------------------------------------------------------------------

lab_up() {
    lab_need_root up
    lab_need_commands
    lab_lock
    if lab_is_up; then
        lab_unlock
        note "lab '$LAB' is up"
        return 0
    fi
    lab_teardown # what an owner that died half way may have left
    # An exit in the middle of this leaves nothing, whichever command failed.
    trap 'trap - EXIT; lab_teardown; lab_unlock' EXIT
    mkdir -p "$LAB_DIR/run/sshd" "$LAB_DIR/run/nginx"
    lab_make_namespaces
    lab_make_routes
    lab_tune
    lab_wait_link
    lab_start_sshd
    lab_start_nginx
    lab_wait_servers
    [[ -z ${SWATH_LAB_OWNER:-} ]] || lab_start_watch "$SWATH_LAB_OWNER"
    lab_check
    : >"$LAB_DIR/up"
    trap - EXIT
    lab_unlock
    note "lab '$LAB' is up: namespaces $NEAR and $FAR"
}

# One change of a lab at a time. Whoever got a lock file that its last owner has just removed starts again.
lab_lock() {
    local file=$LAB_BASE/.$LAB.lock i
    for ((i = 0; i < 100; i++)); do
        mkdir -p "$LAB_BASE"
        { exec {LOCK_FD}>"$file"; } 2>/dev/null || continue
        flock -w 60 "$LOCK_FD" || die "another process has been changing lab '$LAB' for a minute"
        [[ /proc/self/fd/$LOCK_FD -ef $file ]] && return 0
        exec {LOCK_FD}>&-
    done
    die "cannot lock $file"
}

lab_unlock() {
    lab_is_up || rm -f "$LAB_BASE/.$LAB.lock"
    rmdir "$LAB_BASE" 2>/dev/null || true
    exec {LOCK_FD}>&-
}

lab_make_namespaces() {
    ip netns add "$NEAR"
    ip netns add "$FAR"
    local namespace
    for namespace in "$NEAR" "$FAR"; do
        # Before the links exist, which copy these: no router solicitations, no duplicate address detection, no wait for either.
        ip netns exec "$namespace" sysctl -q -w net.ipv6.conf.{all,default}.{accept_dad,accept_ra,router_solicitations}=0 \
            net.ipv4.conf.{all,default}.rp_filter=0 net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
        ip -n "$namespace" link set lo up
    done
    # Both ends are born inside their namespaces: the pair never exists beside the machine's own interfaces.
    ip -n "$NEAR" link add near0 address 02:00:c0:00:02:01 type veth peer name far0 address 02:00:c0:00:02:02 netns "$FAR"
    # The kernel hands frames to a veth peer before it finishes their checksums; a scanner that verifies, tshark and tcpdump
    # would call these bad. With transmit offload off, every frame on this wire is as on a real one.
    in_near ethtool -K near0 tx off >/dev/null
    in_far ethtool -K far0 tx off >/dev/null
    # A veth takes frames that XDP redirects to it (the link xdp_live) only when its other end polls, which GRO makes it do.
    in_far ethtool -K far0 gro on >/dev/null
    ip -n "$NEAR" link set near0 up
    ip -n "$FAR" link set far0 up
}

lab_make_routes() {
    ip -n "$NEAR" address add 192.0.2.1/24 dev near0
    ip -n "$NEAR" address add 2001:db8::1/64 dev near0 nodad
    ip -n "$FAR" address add 192.0.2.2/24 dev far0
    ip -n "$FAR" address add 2001:db8::2/64 dev far0 nodad
    ip -n "$NEAR" route add "$LAB_SWEEP" via 192.0.2.2
    ip -n "$NEAR" route add 203.0.113.0/24 dev near0
    ip -n "$NEAR" route add 2001:db8:1::/64 via 2001:db8::2
    ip -n "$FAR" route add local "$LAB_SWEEP" dev lo
    ip -n "$FAR" route add local 203.0.113.0/24 dev lo
    ip -n "$FAR" route add local 2001:db8:1::/64 dev lo
}

# The far kernel must answer every probe, however fast: SYN cookies always, because a queue of half-open connections that
# overflows drops SYNs; no limit on the rate of ICMP errors (each type in a mask is under the one of the whole host, too: 50 at once) or
# of answers to odd segments.
lab_tune() {
    in_far sysctl -q -w net.ipv4.tcp_syncookies=2 net.ipv4.tcp_max_syn_backlog=65536 net.core.somaxconn=65535 \
        net.ipv4.icmp_ratemask=0 net.ipv4.tcp_invalid_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv6.icmp.ratemask=
}

lab_wait_link() {
    local i
    for ((i = 0; i < 100; i++)); do
        [[ $(ip -n "$NEAR" -o link show near0) == *'state UP'* && $(ip -n "$FAR" -o link show far0) == *'state UP'* ]] && return 0
        sleep_ms 50
    done
    die "the veth pair did not come up in 5 s"
}

# lab_serve NAME COMMAND...: starts a server in far. It sees $LAB_DIR/run as its /run (a mount namespace of its own), so what
# has a fixed path there, such as sshd's /run/sshd, leaves nothing on the machine. All steps exec: the recorded pid is the server's.
lab_serve() {
    local name=$1
    shift
    # shellcheck disable=SC2016 # expands in the inner shell
    setsid ip netns exec "$FAR" bash -c 'mount --bind "$1/run" /run && shift && exec "$@"' lab-server "$LAB_DIR" "$@" \
        </dev/null >"$LAB_DIR/$name.log" 2>&1 {LOCK_FD}>&- &
    lab_record "$name" $!
}

# Nobody can log in: no key file, no password. Only that it listens matters (in a user namespace with one uid a login would fail anyway).
lab_start_sshd() {
    ssh-keygen -q -t ed25519 -N '' -C lab -f "$LAB_DIR/run/sshd_key" </dev/null
    chmod 755 "$LAB_DIR/run/sshd"
    cat >"$LAB_DIR/run/sshd_config" <<'CONFIG'
ListenAddress 0.0.0.0:22
ListenAddress [::]:22
HostKey /run/sshd_key
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile none
CONFIG
    lab_serve sshd "$(type -P sshd)" -D -e -f /run/sshd_config
}

# One process, no change of user, files owned by root: works as real root and as root of a user namespace with a single uid. 443 speaks plain HTTP:
# the lab promises open ports, not protocols.
lab_start_nginx() {
    cat >"$LAB_DIR/run/nginx.conf" <<'CONFIG'
user root root;
daemon off;
master_process off;
pid /run/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path /run/nginx/body;
    proxy_temp_path /run/nginx/proxy;
    fastcgi_temp_path /run/nginx/fastcgi;
    uwsgi_temp_path /run/nginx/uwsgi;
    scgi_temp_path /run/nginx/scgi;
    server {
        listen 0.0.0.0:80 backlog=65535;
        listen 0.0.0.0:443 backlog=65535;
        listen [::]:80 ipv6only=on backlog=65535;
        listen [::]:443 ipv6only=on backlog=65535;
        location / { default_type text/plain; return 200 "swath lab\n"; }
    }
}
CONFIG
    lab_serve nginx "$(type -P nginx)" -e stderr -p /run/nginx -c /run/nginx.conf
}

lab_wait_servers() {
    local i
    for ((i = 0; i < 200; i++)); do
        [[ $(lab_truth | tr '\n' ' ') == '22 80 443 ' ]] && lab_connects && return 0
        if ! lab_alive sshd || ! lab_alive nginx; then break; fi
        sleep_ms 50
    done
    cat "$LAB_DIR"/*.log >&2
    die "sshd and nginx do not answer in the far namespace"
}

# One real connection from near to each port, over both of the ways (gateway, on-link) and both families.
lab_connects() {
    # shellcheck disable=SC2016 # expands in the inner shell
    in_near timeout 10 bash -c 'for at in 198.18.0.1/22 198.19.255.254/80 203.0.113.7/443 2001:db8:1::7/80; do
        : 3<>"/dev/tcp/$at" || exit 1; done' 2>/dev/null
}

# --- The owner's death ------------------------------------------------------------------------------------------------

# With SWATH_LAB_OWNER=PID the lab goes down when that process ends, even by kill -9.
lab_start_watch() {
    local owner=$1
    [[ $owner =~ ^[0-9]+$ && -e /proc/$owner/stat ]] || die "SWATH_LAB_OWNER: no process '$owner'" "$EXIT_USAGE"
    SWATH_LAB=$LAB setsid "$BASH" "$REPOSITORY/scripts/lab" _watch "$owner" "$(start_time "$owner")" \
        </dev/null >"$LAB_DIR/watch.log" 2>&1 {LOCK_FD}>&- &
    lab_record watch $!
}

lab_watch() {
    local owner=$1 started=$2
    while [[ $(start_time "$owner") == "$started" ]]; do sleep_ms 500; done
    lab_down
}

# --- Processes --------------------------------------------------------------------------------------------------------

# start_time PID: ticks since boot, or nothing. With the pid it names one process for ever, whatever reuses the number later.
start_time() {
    local line
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
    line=${line##*) } # the command name may hold anything, also spaces and parentheses
    # shellcheck disable=SC2086 # split on purpose
    set -- $line
    [[ $1 == Z ]] || printf '%s' "${20}"
}

lab_record() { printf '%s %s %s\n' "$1" "$2" "$(start_time "$2")" >>"$LAB_DIR/pids"; }

# lab_alive NAME: the recorded process still runs and is still the one.
lab_alive() {
    local name pid started
    while read -r name pid started; do
        [[ $name == "$1" && -n $started && $(start_time "$pid") == "$started" ]] && return 0
    done <"$LAB_DIR/pids"
    return 1
}

# Everything that runs in the lab's own namespaces was started through the lab; the watch stands outside and is recorded.
lab_processes() {
    local name pid started namespace
    if [[ -e $LAB_DIR/pids ]]; then
        while read -r name pid started; do
            [[ -n $started && $(start_time "$pid") == "$started" ]] && printf '%s\n' "$pid"
        done <"$LAB_DIR/pids"
    fi
    for namespace in "$NEAR" "$FAR"; do
        [[ ! -e /run/netns/$namespace ]] || ip netns pids "$namespace" 2>/dev/null || true
    done
}

# --- Down -------------------------------------------------------------------------------------------------------------

lab_down() {
    lab_need_root down
    lab_lock
    local was=down
    [[ ! -e $LAB_DIR && ! -e /run/netns/$NEAR && ! -e /run/netns/$FAR ]] || was=up
    lab_teardown
    lab_unlock
    [[ $was == down ]] || note "lab '$LAB' is down"
}

lab_teardown() {
    local signal pid left
    for signal in TERM KILL; do
        for ((left = 40; left > 0; left--)); do
            local pids=()
            while read -r pid; do
                [[ $pid == "$$" || $pid == "$BASHPID" ]] || pids+=("$pid")
            done < <(lab_processes | sort -un)
            ((${#pids[@]})) || break 2
            ((left % 20)) || kill -s "$signal" "${pids[@]}" 2>/dev/null || true
            sleep_ms 50
        done
    done
    local namespace
    for namespace in "$NEAR" "$FAR"; do
        [[ ! -e /run/netns/$namespace ]] || ip netns delete "$namespace"
    done
    rm -rf "$LAB_DIR"
}

# --- The guard --------------------------------------------------------------------------------------------------------

# Refuses (exit 3) unless the veth pair is the only way out of both namespaces. Called before every command in the lab.
lab_check() {
    lab_check_namespace "$NEAR" near0 "$FAR"
    lab_check_namespace "$FAR" far0 "$NEAR"
    local family
    for family in -4 -6; do
        [[ -z $(ip -n "$NEAR" "$family" route show default) ]] || lab_refuse "$NEAR has a default route"
    done
}

lab_check_namespace() {
    local namespace=$1 wanted=$2 other=$3 links line name flags seen=no
    # Not in a process substitution: a failing `ip` must refuse, not show an empty list.
    links=$(ip -n "$namespace" -d -o link show) || lab_refuse "cannot list the interfaces of $namespace"
    while IFS= read -r line; do
        name=${line#*: } name=${name%%:*} name=${name%%@*}
        flags=,${line#*<} flags=${flags%%>*},
        if [[ $name == "$wanted" ]]; then
            [[ $line == *" veth "* && "$line " == *" link-netns $other "* ]] || lab_refuse "$wanted in $namespace is not the lab's veth"
            seen=yes
        elif [[ $name == lo ]]; then
            continue
        elif [[ $name =~ ^swath[0-9]+$ && "$line " == *' tun type tun '* && $flags != *,UP,* ]]; then
            continue # what the link xdp_live attaches its program to; it carries nothing
        elif [[ $KERNEL_DEVICES == *" $name "* && $flags != *,UP,* ]]; then
            continue
        else
            lab_refuse "$namespace holds interface '$name', which the lab did not make"
        fi
    done <<<"$links"
    [[ $seen == yes ]] || lab_refuse "$namespace holds no $wanted"
}

lab_refuse() { die "refused: $1" "$EXIT_UNSAFE"; }

# --- Commands in the lab ----------------------------------------------------------------------------------------------

lab_exec() {
    lab_need_up exec
    lab_check
    exec ip netns exec "$NEAR" "$@"
}

lab_far() {
    lab_need_up far
    lab_check
    exec ip netns exec "$FAR" "$@"
}

lab_status() {
    lab_need_root status
    if ! lab_is_up; then
        echo "lab '$LAB': down"
        return "$EXIT_FAILED"
    fi
    echo "lab '$LAB': up"
    local name namespace
    for name in sshd nginx; do
        if lab_alive "$name"; then echo "$name: runs"; else echo "$name: dead (see $LAB_DIR/$name.log)"; fi
    done
    for namespace in "$NEAR" "$FAR"; do
        echo "$namespace:"
        ip -n "$namespace" -br address show | sed 's/^/  /'
    done
    echo "sink: $(lab_sink count) frames dropped"
    lab_loss count | sed 's/^/loss: /'
}

# Ports that something in far listens on at every IPv4 address, one a line: what a sweep must find, told by the far kernel.
lab_truth() {
    local sockets
    sockets=$(in_far ss -Hltn)
    awk '{ n = match($4, /:[0-9]+$/); host = substr($4, 1, n - 1); if (host == "0.0.0.0" || host == "*") print substr($4, n + 1) }' \
        <<<"$sockets" | sort -nu
}

# IPv4 prefixes whose every address far owns, told by its routing table.
lab_prefixes() { ip -n "$FAR" -4 route show table local type local dev lo | awk '$2 ~ /\// && $2 !~ /^127\./ { print $2 }'; }

# --- Sink and loss ----------------------------------------------------------------------------------------------------

# nft_table TABLE: reads rules from stdin into a netdev table of far; replaces an older one in the same transaction.
nft_table() {
    {
        printf 'add table netdev %s\ndelete table netdev %s\n' "$1" "$1"
        cat
    } | in_far nft -f -
}

nft_remove() { in_far nft -f - <<<"add table netdev $1; delete table netdev $1"; }

# nft_packets TABLE COUNTER: packets counted so far; 0 when the table is not there.
nft_packets() {
    local text
    text=$(in_far nft list counter netdev "$1" "$2" 2>/dev/null) || text='packets 0'
    [[ $text =~ packets\ ([0-9]+) ]] && printf '%s\n' "${BASH_REMATCH[1]}"
}

# Drops every frame at the first hook behind the wire, before the far kernel spends anything on it. Neighbour resolution passes, so
# that scanners can start. IPv4 comes first: one comparison a frame is all the sink costs.
lab_sink() {
    case ${1:-} in
    on)
        nft_table swath_sink <<'RULES'
table netdev swath_sink {
    counter dropped { }
    chain ingress {
        type filter hook ingress device "far0" priority 0; policy accept;
        meta protocol ip counter name dropped drop
        meta protocol arp accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        counter name dropped drop
    }
}
RULES
        ;;
    off) nft_remove swath_sink ;;
    count) nft_packets swath_sink dropped ;;
    *) die "usage: lab sink on|off|count" "$EXIT_USAGE" ;;
    esac
}

# Random loss on the way to far, with exact counts: what a sweep may miss is the number of lost SYNs, so tests can ask for equality.
lab_loss() {
    case ${1:-} in
    off) nft_remove swath_loss ;;
    count) printf 'syn %s\nother %s\n' "$(nft_packets swath_loss lost_syn)" "$(nft_packets swath_loss lost_other)" ;;
    *)
        local share chance
        [[ ${1:-} =~ ^([0-9]{1,3})(\.([0-9]{1,2}))?$ ]] || die "usage: lab loss PERCENT|off|count" "$EXIT_USAGE"
        share=${BASH_REMATCH[3]:-0}0
        share=$((10#${BASH_REMATCH[1]} * 100 + 10#${share:0:2}))
        ((share <= 10000)) || die "loss: more than 100 percent" "$EXIT_USAGE"
        chance="numgen random mod 10000 < $share"
        ((share < 10000)) || chance='' # nft refuses a comparison that is always true
        nft_table swath_loss <<RULES
table netdev swath_loss {
    counter lost_syn { }
    counter lost_other { }
    chain ingress {
        type filter hook ingress device "far0" priority -10; policy accept;
        meta protocol arp accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        tcp flags & (syn | ack | rst | fin) == syn $chance counter name lost_syn drop
        tcp flags & (syn | ack | rst | fin) == syn accept
        $chance counter name lost_other drop
    }
}
RULES
        ;;
    esac
}

# --- A lab for the time of one command --------------------------------------------------------------------------------

# lab_with COMMAND...: lab up, COMMAND beside it (not in it) with SWATH_LAB set, lab down; exits with COMMAND's status.
# Beside it is a namespace with a loopback device and nothing else: what COMMAND sends without `lab exec`, by mistake, leaves
# no machine.
# Without root all of it happens in user, network and mount namespaces of our own, which vanish with the last process.
lab_with() {
    (($#)) || die "no command given" "$EXIT_USAGE"
    if ! is_root; then
        lab_need_commands
        unshare -Urnm true 2>/dev/null || die "needs root: user namespaces are not allowed here"
        # shellcheck disable=SC2016 # expands in the inner shell
        exec unshare -Urnm "$BASH" -c 'mount -t tmpfs tmpfs /run && mkdir /run/netns && exec "$@"' rootless \
            "$REPOSITORY/scripts/lab" with "$@"
    fi
    export SWATH_LAB=$LAB
    if lab_is_up; then die "lab '$LAB' is already up; it has another owner"; fi
    SWATH_LAB_OWNER=$$ lab_up
    trap lab_down EXIT
    lab_run_child "$@"
}

# Runs COMMAND so that a signal to us alone (kill, timeout) reaches it as well and we live to tear down. ^C reaches it by itself.
lab_run_child() {
    local status=0 child
    trap 'kill -s TERM "$child" 2>/dev/null || true' TERM HUP
    trap : INT
    # In the background bash ignores ^C on behalf of the command and takes its stdin away; both are given back here.
    # shellcheck disable=SC2016 # expands in the inner shell
    unshare --net env --default-signal=INT,QUIT "$BASH" -c 'ip link set lo up && exec "$@"' beside "$@" <&0 &
    child=$!
    while :; do
        wait "$child" && status=0 || status=$?
        [[ -n $(start_time "$child") ]] || break # a trap ends `wait` early
    done
    exit "$status"
}
