# shellcheck shell=bash
# Shared by every script here: messages, exit codes, missing packages, where the swath binary is.
# Sourced, never run. Knows nothing of the lab (that is lab.sh).

# shellcheck disable=SC2034 # used by those who source this
readonly EXIT_FAILED=1 EXIT_USAGE=2 EXIT_UNSAFE=3

# Where rustup puts cargo: a shell that is no login shell (sudo, a CI runner) may not look there.
PATH=$PATH:${HOME:-/root}/.cargo/bin

note() { printf '%s\n' "$*" >&2; }
die() {
    note "${0##*/}: $1"
    exit "${2:-$EXIT_FAILED}"
}

is_root() { [[ $EUID -eq 0 ]]; }

# Seconds since the epoch in microseconds, without a process.
now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# seconds_since START_US: elapsed seconds with two decimals.
seconds_since() {
    local delta=$(($(now_us) - $1))
    printf '%d.%02d' $((delta / 1000000)) $((delta % 1000000 / 10000))
}

# sleep_ms MS: sleeps without forking, so that samplers do not take the processor from what they measure.
sleep_ms() {
    [[ -n ${SLEEP_FD:-} ]] || exec {SLEEP_FD}<> <(:)
    local seconds
    printf -v seconds '%d.%03d' $(($1 / 1000)) $(($1 % 1000))
    read -r -t "$seconds" -u "$SLEEP_FD" || true
}

# The swath binary that `cargo build --release` makes; SWATH_BIN names another one.
swath_binary() {
    local target=${CARGO_TARGET_DIR:-$REPOSITORY/target}
    printf '%s' "${SWATH_BIN:-$target/release/swath}"
}

build_swath() {
    [[ -z ${SWATH_BIN:-} ]] || return 0
    need_commands cargo: cc:gcc
    (cd "$REPOSITORY" && cargo build --release --locked) >&2
}

# need_commands COMMAND:PACKAGE...: installs the packages whose command is missing. "COMMAND:" has no package.
need_commands() {
    local pair command package missing=()
    for pair in "$@"; do
        command=${pair%%:*} package=${pair#*:}
        PATH=$PATH:/usr/sbin:/sbin type -P "$command" >/dev/null && continue
        [[ -n $package ]] || die "'$command' is missing and no Debian package brings a recent enough one (for cargo: https://rustup.rs)"
        missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    is_root || die "missing packages: ${missing[*]}; run once as root: apt-get install --no-install-recommends ${missing[*]}"
    type -P apt-get >/dev/null || die "missing packages and no apt-get here: ${missing[*]}"
    install_packages "${missing[@]}"
}

# Installs quietly, starts no service, and disables at boot those that came with it (nginx, ssh): we want the programs only.
install_packages() {
    note "installing: $*"
    local log policy=/usr/sbin/policy-rc.d ours=no status=0
    log=$(mktemp)
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\n# temporary, made by a swath script: no service starts while it installs\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        ours=yes
    fi
    {
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q && apt-get install -q -y --no-install-recommends "$@"
    } >"$log" 2>&1 || status=$?
    [[ $ours == no ]] || rm -f "$policy"
    if ((status)); then
        cat "$log" >&2
        rm -f "$log"
        die "apt-get failed (installing: $*)"
    fi
    rm -f "$log"
    disable_services "$@"
}

disable_services() {
    type -P systemctl >/dev/null || return 0
    local package
    for package in "$@"; do
        case $package in
        nginx-light) systemctl disable --quiet nginx.service >/dev/null 2>&1 || true ;;
        openssh-server) systemctl disable --quiet ssh.service ssh.socket >/dev/null 2>&1 || true ;;
        nftables) systemctl disable --quiet nftables.service >/dev/null 2>&1 || true ;;
        esac
    done
}
