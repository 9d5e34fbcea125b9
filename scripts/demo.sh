#!/usr/bin/env bash
# The main job, end to end, on real input: build tests/fixtures/demo for arm64 on a real BuildKit, push it to a real
# registry, pull it back by digest with another tool, run it, ask it for a page. stdout: the pushed reference, last.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$checkout"
work=target/demo
name=demo/lighthouse

say() { printf 'demo: %s\n' "$*" >&2; }
die() {
  printf 'demo: error: %s\n' "$*" >&2
  exit 1
}

container=
docker() { DOCKER_HOST=$BK_SYNC_TEST_DOCKERD_HOST DOCKER_CONFIG=$checkout/$work/docker command "$BK_SYNC_TEST_BIN/docker" "$@"; }
cleanup() { [ -z "$container" ] || docker rm --force "$container" >/dev/null 2>&1 || true; }
trap cleanup EXIT

say "1/5 the test bed: Docker, a registry, emulation of arm64"
scripts/services.sh demo >&2
# shellcheck source=/dev/null
. target/services.env
mkdir -p "$work/docker"

say "2/5 building bk-sync (the first time takes some minutes)"
"${CARGO:-cargo}" build --release --locked --bin bk-sync >&2
bk_sync=${CARGO_TARGET_DIR:-target}/release/bk-sync

say "3/5 bk-sync build --platform linux/arm64 --push"
key=$work/signing-key
[ -s "$key" ] || (umask 077 && head -c 32 /dev/urandom | sha256sum | cut -d' ' -f1 >"$key")
tag=$(git rev-parse --short HEAD 2>/dev/null || echo demo)
reference=$("$bk_sync" build --builder "$BK_SYNC_TEST_DOCKERD" --platform linux/arm64 \
  --build-arg "BASE=$BK_SYNC_TEST_BASE_ARM64" --build-arg "VERSION=$tag" --secret "id=signing_key,src=$key" \
  --tag "$BK_SYNC_TEST_REGISTRY/$name:$tag" --push tests/fixtures/demo)
digest=${reference##*@}
case $reference in
  "$BK_SYNC_TEST_REGISTRY/$name:$tag@sha256:"*) ;;
  *) die "bk-sync printed \`$reference\`, which is not the reference that was asked for" ;;
esac

say "4/5 pulling it back by digest with skopeo"
remote=docker://$BK_SYNC_TEST_REGISTRY/$name@$digest
skopeo=$BK_SYNC_TEST_BIN/skopeo
platform=$("$skopeo" inspect --tls-verify=false --override-os linux --override-arch arm64 --format '{{.Os}}/{{.Architecture}}' "$remote")
[ "$platform" = linux/arm64 ] || die "the registry says $platform, not linux/arm64"
rm -rf "$work/pulled"
"$skopeo" copy --quiet --src-tls-verify=false --override-os linux --override-arch arm64 "$remote" "dir:$work/pulled" >&2
say "    the manifest says $platform, $(find "$work/pulled" -type f | wc -l) files pulled"
if grep -rqF -- "$(<"$key")" "$work/pulled" || zcat -f "$work/pulled"/* 2>/dev/null | grep -qaF -- "$(<"$key")"; then
  die "the secret is in the image"
fi

say "5/5 running it, under emulation"
docker pull --quiet --platform linux/arm64 "$BK_SYNC_TEST_REGISTRY/$name@$digest" >>"$work/docker.log" 2>&1 \
  || die "docker pull failed; its output is in $work/docker.log"
container=$(docker run --detach --platform linux/arm64 --publish 127.0.0.1::8080 "$BK_SYNC_TEST_REGISTRY/$name@$digest" 2>>"$work/docker.log") \
  || die "docker run failed; its output is in $work/docker.log"
address=$(docker port "$container" 8080/tcp)
health=
for _ in $(seq 50); do
  if health=$(curl -fsS --max-time 2 "http://$address/healthz" 2>/dev/null); then break; fi
  sleep 0.2
done
case $health in
  *'"built_on":"aarch64"'*) say "    http://$address/healthz: $health" ;;
  *) docker logs "$container" >&2 || true; die "the service does not answer on http://$address/healthz" ;;
esac
say "    $(docker logs "$container" 2>/dev/null | head -n 1)"
say "done in $SECONDS s; pushed, pulled and run:"
echo "$reference"
