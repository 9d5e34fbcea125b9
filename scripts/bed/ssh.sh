# shellcheck shell=bash
# An ssh server for `ssh://` builders: it runs as a user of its own, so it lets in that user only, never root.

readonly BED_SSH=$BED_STATE/ssh
readonly BED_SSH_USER=bk-sync-testbed

ensure_ssh_user() {
  quietly id "$BED_SSH_USER" || useradd --system --user-group --home-dir "$BED_SSH/home" --shell /bin/sh --password '*' "$BED_SSH_USER"
}

ssh_start() {
  local root=$BED_ROOT/amd64
  ensure_ssh_user || return 1
  mkdir -p "$BED_SSH/home" "$BED_SSH/bin"
  chmod 755 "$BED_STATE" "$BED_SSH" "$BED_SSH/home"
  [ -e "$BED_SSH/host_key" ] || ssh-keygen -q -t ed25519 -N '' -C bk-sync-testbed-host -f "$BED_SSH/host_key" || return 1
  [ -e "$BED_SSH/client_key" ] || ssh-keygen -q -t ed25519 -N '' -C bk-sync-testbed-client -f "$BED_SSH/client_key" || return 1
  cp "$BED_SSH/client_key.pub" "$BED_SSH/authorized_keys"
  chown "$BED_SSH_USER" "$BED_SSH/host_key" "$BED_SSH/authorized_keys"
  echo "[127.0.0.1]:$BED_PORT_SSH $(cut -d' ' -f1,2 "$BED_SSH/host_key.pub")" >"$BED_SSH/known_hosts"
  cat >"$BED_SSH/sshd_config" <<CONFIG
ListenAddress 127.0.0.1
Port $BED_PORT_SSH
HostKey $BED_SSH/host_key
PidFile none
AuthorizedKeysFile $BED_SSH/authorized_keys
AllowUsers $BED_SSH_USER
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
SetEnv PATH=$BED_BIN:/usr/bin:/bin BUILDKIT_HOST=unix://$BED_RUN/buildkit/buildkitd.sock
CONFIG
  cat >"$BED_SSH/config" <<CONFIG
Host 127.0.0.1
  Port $BED_PORT_SSH
  User $BED_SSH_USER
  IdentityFile $BED_SSH/client_key
  IdentitiesOnly yes
  UserKnownHostsFile $BED_SSH/known_hosts
  StrictHostKeyChecking yes
  BatchMode yes
CONFIG
  # First in PATH, this `ssh` knows the bed's keys, without a word in anybody's ~/.ssh.
  write_script "$BED_SSH/bin/ssh" "exec $(command -v ssh) -F $BED_SSH/config \"\$@\""
  start_daemon ssh setpriv --reuid "$BED_SSH_USER" --regid "$BED_SSH_USER" --init-groups \
    env LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu" "$root/usr/sbin/sshd" -D -e -f "$BED_SSH/sshd_config"
}
ssh_ready() { daemon_pid ssh && "$BED_SSH/bin/ssh" "$BED_SSH_USER@127.0.0.1" buildctl --timeout 5 debug workers; }
ssh_stop() { stop_daemon ssh; }
ssh_env() {
  echo "BK_SYNC_TEST_SSH=ssh://$BED_SSH_USER@127.0.0.1:$BED_PORT_SSH"
  echo "BK_SYNC_TEST_SSH_PATH=$BED_SSH/bin"
}
