# shellcheck shell=bash
# A git server for contexts and `ADD` from a repository: what a test puts into its root is served.

readonly BED_GIT=$BED_STATE/git

git_start() {
  mkdir -p "$BED_GIT"
  start_daemon git "$(git --exec-path)/git-daemon" --reuseaddr --export-all --listen=127.0.0.1 --port="$BED_PORT_GIT" \
    --base-path="$BED_GIT" --max-connections=64 "$BED_GIT"
}
git_ready() { daemon_pid git && (exec 3<>"/dev/tcp/127.0.0.1/$BED_PORT_GIT"); }
git_env() {
  echo "BK_SYNC_TEST_GIT=git://127.0.0.1:$BED_PORT_GIT"
  echo "BK_SYNC_TEST_GIT_ROOT=$BED_GIT"
}
