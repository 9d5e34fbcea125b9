# shellcheck shell=bash
# Words that all parts of the test bed share: saying, failing, starting, ending. Sourced by services.sh.

# A second bed beside the first (`services-check.sh` makes one) has its own state, ports and bridges.
readonly BED_INSTANCE=${BK_SYNC_TESTBED_INSTANCE:+-$BK_SYNC_TESTBED_INSTANCE}
if [ -n "$BED_INSTANCE" ]; then
  for port in "${!BED_PORT_@}"; do printf -v "$port" %s "$((${!port} + 100))"; done
  readonly BED_BRIDGES=(bksync2 10.213.79.1/24 bksync3 10.213.80.1/24)
  readonly BED_POD_BRIDGE=bksync5 BED_POD_NETWORK=10.213.82
else
  readonly BED_BRIDGES=(bksync0 10.213.77.1/24 bksync1 10.213.78.1/24)
  readonly BED_POD_BRIDGE=bksync4 BED_POD_NETWORK=10.213.81
fi

# What is made once; CI may keep it elsewhere.
readonly BED_CACHE=${BK_SYNC_TESTBED_CACHE:-/var/cache/bk-sync-testbed}
readonly BED_STATE=/var/lib/bk-sync-testbed$BED_INSTANCE
readonly BED_RUN=/run/bk-sync-testbed$BED_INSTANCE
readonly BED_LOGS=$BED_STATE/log
readonly BED_BIN=$BED_CACHE/bin

say() { printf 'bed: %s\n' "$*" >&2; }

die() {
  printf 'bed: error: %s\n' "$*" >&2
  exit 1
}

quietly() { "$@" >/dev/null 2>&1; }

# lock lets one run at a time change the bed; daemons must not inherit the descriptor.
lock() {
  exec 9>/run/bk-sync-testbed.lock
  if ! flock -n 9; then
    say "another run is at work on the bed; waiting for it"
    flock 9
  fi
}

# bring_up PART: start it and wait until it answers, or say which part failed and where its log is.
bring_up() {
  local part=$1 log=$BED_LOGS/${1//_/-}.log
  say "$part: starting"
  if ! "${part}_start"; then
    [ ! -s "$log" ] || tail -n 15 "$log" >&2
    die "$part: did not start; its log is $log"
  fi
  if ! wait_until 60 ready_or_dead "$part" || ! quietly "${part}_ready"; then
    [ ! -s "$log" ] || tail -n 15 "$log" >&2
    die "$part: was started, but does not answer; its log is $log"
  fi
}

ready_or_dead() {
  "$1_ready" || { [ -e "$BED_RUN/${1//_/-}.pid" ] && gone "${1//_/-}"; }
}

# unmount_below DIR…: what is mounted there still, the innermost first; a killed daemon leaves some.
unmount_below() {
  local dir mount
  for dir in "$@"; do
    cut -d' ' -f2 /proc/mounts | { grep -e "^$dir/" || true; } | sort -r | while read -r mount; do umount --lazy "$mount" || true; done
  done
}

wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until quietly "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

# start_daemon NAME COMMAND…: in a session of its own, with stdout in NAME.access.log (the registries'
# access log), stderr in NAME.log, and a pid file that names the process beyond the reuse of its id.
start_daemon() {
  local name=$1 pid
  shift
  stop_daemon "$name"
  [ ! -e "$BED_LOGS/$name.log" ] || mv -f "$BED_LOGS/$name.log" "$BED_LOGS/$name.log.1"
  # The checkout that starts it may go away; what a daemon starts in turn (git) needs a directory that stays.
  (cd / && exec setsid "$@") </dev/null >>"$BED_LOGS/$name.access.log" 2>"$BED_LOGS/$name.log" 9>&- &
  pid=$!
  printf '%s %s\n' "$pid" "$(process_start "$pid")" >"$BED_RUN/$name.pid"
}

# process_start PID: when it started, in clock ticks since boot (field 22, after the name in brackets).
process_start() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# daemon_pid NAME: the id of the process that we started under that name, if it still lives.
daemon_pid() {
  local pid start
  [ -r "$BED_RUN/$1.pid" ] || return 1
  read -r pid start <"$BED_RUN/$1.pid" || return 1
  [ -n "$start" ] && [ "$(process_start "$pid")" = "$start" ] || return 1
  echo "$pid"
}

stop_daemon() {
  local pid
  if pid=$(daemon_pid "$1"); then
    say "$1: ending process $pid"
    kill -TERM "$pid" 2>/dev/null || true
    if ! wait_until 20 gone "$1"; then
      say "$1: does not end, killing it"
      kill -KILL "$pid" 2>/dev/null || true
      wait_until 5 gone "$1" || true
    fi
  fi
  rm -f "$BED_RUN/$1.pid"
}

gone() { ! daemon_pid "$1"; }

# ensure_commands installs what the script itself uses, where a bare machine lacks it.
ensure_commands() {
  local pair missing=()
  for pair in curl:curl openssl:openssl ip:iproute2 ssh:openssh-client flock:util-linux setsid:util-linux git:git; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends ca-certificates "${missing[@]}"; } \
    >"$BED_LOGS/apt.log" 2>&1 || die "packages: apt-get failed; its log is $BED_LOGS/apt.log"
}
