# shellcheck shell=bash
# What workers of the whole-system test start from: Node for arm64, out of Debian's packages, and the real `inngest`
# package, installed by the lock file of tests/bed/inngest into /opt/store, where a pnpm store would be.

BED_NODE_BASE=$BED_CACHE/node-$(cat "${BASH_SOURCE[0]}" "$BED_CHECKOUT"/tests/bed/inngest/package*.json - <<<"$BED_ROOT $BED_NODE_PACKAGES" | sha256sum | cut -c1-12)
readonly BED_NODE_BASE

base_node_start() {
  local image=$BED_NODE_BASE/node-arm64
  if [ ! -e "$BED_NODE_BASE/.complete" ]; then
    say "base_node: fetching Node for arm64 and the inngest package (about 30 MB, once)"
    rm -rf "$BED_NODE_BASE"
    make_rootfs arm64 "$image" || return 1
    apt_update
    # shellcheck disable=SC2086
    fetch_packages "$image" "" arm64 "$BED_SUITE" $BED_NODE_PACKAGES || return 1
    rm -rf "$image"/usr/share/{doc,man,lintian}
    install_inngest "$image/opt/store" || return 1
    make_image arm64 "$image" || return 1
    touch "$BED_NODE_BASE/.complete"
  fi
  push_image "$BED_PORT_REGISTRY" base/node arm64 "$image"
}
base_node_ready() {
  [ -e "$BED_NODE_BASE/.complete" ] && has_manifest "$BED_PORT_REGISTRY" base/node "$(digest_of "$BED_NODE_BASE/node-arm64.manifest.json")"
}
base_node_env() { echo "BK_SYNC_TEST_BASE_NODE_ARM64=127.0.0.1:$BED_PORT_REGISTRY/base/node:arm64"; }

# install_inngest DIR: the lock file's packages, each checked against its digest there. No script of theirs is run.
install_inngest() {
  local store=$1
  command -v npm >/dev/null \
    || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends npm; } >"$BED_LOGS/apt.log" 2>&1 \
    || die "base_node: npm cannot be installed; the log is $BED_LOGS/apt.log"
  mkdir -p "$store" && cp "$BED_CHECKOUT"/tests/bed/inngest/package*.json "$store" || return 1
  npm ci --prefix "$store" --ignore-scripts --omit=optional --no-audit --no-fund --cache "$BED_CACHE/npm" >"$BED_LOGS/base-node.log" 2>&1
}
