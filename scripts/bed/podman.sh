# shellcheck shell=bash
# A container of a real Podman for `podman-container://`: busybox and buildctl out of a directory, no image, with
# buildkitd's socket where buildctl looks. Podman runs on storage of the bed's own, beside any that is installed.

readonly BED_PODMAN=$BED_STATE/podman

podman_start() {
  local files
  mkdir -p "$BED_PODMAN/bin" "$BED_RUN/podman"
  cat >"$BED_PODMAN/containers.conf" <<TOML
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
conmon_path = ["$BED_TOOLS/usr/bin/conmon"]
[engine.runtimes]
runc = ["$BED_ROOT/amd64/usr/sbin/runc"]
TOML
  # First in PATH, this `podman` knows the bed's storage, as the bed's `ssh` its keys.
  write_script "$BED_PODMAN/bin/podman" "LD_LIBRARY_PATH=$BED_TOOLS/usr/lib/x86_64-linux-gnu:$BED_ROOT/amd64/usr/lib/x86_64-linux-gnu \
CONTAINERS_CONF=$BED_PODMAN/containers.conf exec $BED_TOOLS/usr/bin/podman --root $BED_PODMAN/storage --runroot $BED_RUN/podman --tmpdir $BED_RUN/podman/tmp --storage-driver vfs \"\$@\""
  podman_stop
  rm -rf "$BED_PODMAN/storage"
  buildctl_rootfs "$BED_PODMAN/rootfs" || return 1
  # Podman wants to raise limits that a machine in a sandbox may not raise.
  files=$(ulimit -Hn)
  bed_podman run --detach --name "$BED_CONTAINER" --ulimit "nofile=$files:$files" --ulimit nproc=4096:4096 --network none \
    --volume "$BED_RUN/buildkit:/run/buildkit" --env PATH=/usr/bin:/bin --rootfs "$BED_PODMAN/rootfs" busybox tail -f /dev/null \
    >"$BED_LOGS/podman.log" 2>&1 9>&-
}
podman_ready() { bed_podman exec "$BED_CONTAINER" buildctl --timeout 5 debug workers; }
podman_stop() { [ ! -d "$BED_PODMAN/storage" ] || bed_podman rm --force --time 0 "$BED_CONTAINER" >/dev/null 2>&1 || true; }
podman_env() {
  echo "BK_SYNC_TEST_PODMAN_CONTAINER=podman-container://$BED_CONTAINER"
  echo "BK_SYNC_TEST_PODMAN_PATH=$BED_PODMAN/bin"
}

bed_podman() { "$BED_PODMAN/bin/podman" "$@"; }
