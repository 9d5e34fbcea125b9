# shellcheck shell=bash
# Emulation of arm64, and base images made without any other registry: busybox (arm64, amd64, both) and Debian (arm64).

readonly BED_BINFMT=/proc/sys/fs/binfmt_misc
# Made anew when the packages or this file change.
BED_BASES=$BED_CACHE/bases-$(cat "${BASH_SOURCE[0]}" - <<<"$BED_ROOT $BED_DEBIAN_BASE" | sha256sum | cut -c1-12)
readonly BED_BASES

# ensure_emulation registers qemu for arm64, unless the machine runs arm64 in containers already. Flag F: the kernel
# keeps the interpreter open, so it works inside containers; P: argv[0] stays what it was, or busybox would take the
# applet that its shell runs for another shell; C and O: credentials and the open file are the program's.
ensure_emulation() {
  if [ ! -e "$BED_BINFMT/register" ]; then
    mount -t binfmt_misc binfmt_misc "$BED_BINFMT" || die "emulation: binfmt_misc cannot be mounted on $BED_BINFMT"
    touch "$BED_RUN/binfmt.mounted"
  fi
  if grep -qs '^enabled' "$BED_BINFMT/qemu-aarch64" && grep -qs '^flags:.*F' "$BED_BINFMT/qemu-aarch64"; then return; fi
  [ ! -e "$BED_BINFMT/qemu-aarch64" ] || die "emulation: $BED_BINFMT/qemu-aarch64 is there without the F flag, so it does not work in containers; install qemu-user-static or remove the entry"
  say "emulation: registering qemu for arm64"
  # The ELF header of an arm64 executable, and the bits of it that must match.
  # shellcheck disable=SC2028
  echo ":qemu-aarch64:M::\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:$BED_ROOT/amd64/usr/bin/qemu-aarch64-static:POCF" \
    >"$BED_BINFMT/register" || die "emulation: the kernel refused qemu-aarch64"
  touch "$BED_RUN/binfmt.registered"
}

remove_emulation() {
  if [ -e "$BED_RUN/binfmt.registered" ]; then
    [ ! -e "$BED_BINFMT/qemu-aarch64" ] || echo -1 >"$BED_BINFMT/qemu-aarch64"
    rm -f "$BED_RUN/binfmt.registered"
  fi
  if [ -e "$BED_RUN/binfmt.mounted" ]; then
    umount "$BED_BINFMT" 2>/dev/null || true
    rm -f "$BED_RUN/binfmt.mounted"
  fi
}

base_images_start() { push_bases "$BED_PORT_REGISTRY"; }
base_images_ready() { has_bases "$BED_PORT_REGISTRY"; }
base_images_env() {
  echo "BK_SYNC_TEST_BASE_ARM64=127.0.0.1:$BED_PORT_REGISTRY/base/busybox:arm64"
  echo "BK_SYNC_TEST_BASE_MULTI=127.0.0.1:$BED_PORT_REGISTRY/base/busybox:multi"
}

private_bases_start() {
  push_bases "$BED_PORT_REGISTRY_BASIC" -u "$BED_USERNAME:$BED_PASSWORD" \
    && push_bases "$BED_PORT_REGISTRY_TOKEN" -H "Authorization: Bearer $(bed_token repository:base/busybox:pull,push)"
}
private_bases_ready() {
  has_bases "$BED_PORT_REGISTRY_BASIC" -u "$BED_USERNAME:$BED_PASSWORD" \
    && has_bases "$BED_PORT_REGISTRY_TOKEN" -H "Authorization: Bearer $(bed_token repository:base/busybox:pull)"
}
private_bases_env() {
  echo "BK_SYNC_TEST_BASE_ARM64_TOKEN=127.0.0.1:$BED_PORT_REGISTRY_TOKEN/base/busybox:arm64"
  echo "BK_SYNC_TEST_BASE_ARM64_BASIC=127.0.0.1:$BED_PORT_REGISTRY_BASIC/base/busybox:arm64"
}

bed_token() {
  curl -fsS -u "$BED_USERNAME:$BED_PASSWORD" "http://127.0.0.1:$BED_PORT_TOKEN_SERVER/token?service=bk-sync-testbed&scope=$1" \
    | sed 's/.*"token":"\([^"]*\)".*/\1/'
}

has_bases() {
  local port=$1
  shift
  [ -e "$BED_BASES/.busybox" ] && has_manifest "$port" base/busybox "$(<"$BED_BASES/multi.digest")" "$@"
}

has_manifest() {
  local port=$1 repository=$2 reference=$3
  shift 3
  [ "$(curl -sS -o /dev/null -w '%{http_code}' "$@" -H 'Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json' \
    "http://127.0.0.1:$port/v2/$repository/manifests/$reference")" = 200 ]
}

# push_bases PORT CURL_OPTION…: base/busybox with the tags arm64, amd64 and multi (an index of both). The same bytes,
# so the same digests, on every machine.
push_bases() {
  local port=$1 architecture file entries=()
  shift
  make_bases || return 1
  for architecture in arm64 amd64; do
    push_image "$port" base/busybox "$architecture" "$BED_BASES/busybox-$architecture" "$@" || return 1
    file=$BED_BASES/busybox-$architecture.manifest.json
    entries+=("{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"$(digest_of "$file")\",\"size\":$(stat -c %s "$file"),\"platform\":{\"architecture\":\"$architecture\",\"os\":\"linux\"}}")
  done
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s,%s]}' "${entries[@]}" >"$BED_BASES/multi.json"
  push_manifest "$port" base/busybox multi image.index "$BED_BASES/multi.json" "$@" || return 1
  digest_of "$BED_BASES/multi.json" >"$BED_BASES/multi.digest"
}

make_bases() {
  local architecture
  [ ! -e "$BED_BASES/.busybox" ] || return 0
  for architecture in arm64 amd64; do
    rm -rf "$BED_BASES/busybox-$architecture"*
    make_rootfs "$architecture" "$BED_BASES/busybox-$architecture" || return 1
    make_image "$architecture" "$BED_BASES/busybox-$architecture" || return 1
  done
  touch "$BED_BASES/.busybox"
}

# A fuller base: what Debian calls essential, with glibc, bash and the real coreutils. Unpacked, not configured.
base_debian_start() {
  local image=$BED_BASES/debian-arm64
  if [ ! -e "$BED_BASES/.debian" ]; then
    rm -rf "$image"*
    # Debian's directories are links into /usr; the links come first, so that packages unpack through them.
    mkdir -p "$image"/usr/{bin,sbin,lib} || return 1
    ln -s usr/bin usr/sbin usr/lib "$image/" || return 1
    apt_update
    # shellcheck disable=SC2086
    fetch_packages "$image" "" arm64 "$BED_SUITE" $BED_DEBIAN_BASE || return 1
    cp "$image/usr/share/base-passwd/passwd.master" "$image/etc/passwd" && cp "$image/usr/share/base-passwd/group.master" "$image/etc/group" || return 1
    ln -sf mawk "$image/usr/bin/awk"
    ln -sf bash "$image/usr/bin/sh"
    make_image arm64 "$image" || return 1
    touch "$BED_BASES/.debian"
  fi
  push_image "$BED_PORT_REGISTRY" base/debian arm64 "$image"
}
base_debian_ready() {
  [ -e "$BED_BASES/.debian" ] && has_manifest "$BED_PORT_REGISTRY" base/debian "$(digest_of "$BED_BASES/debian-arm64.manifest.json")"
}
base_debian_env() { echo "BK_SYNC_TEST_BASE_DEBIAN_ARM64=127.0.0.1:$BED_PORT_REGISTRY/base/debian:arm64"; }

# make_image ARCHITECTURE DIR: DIR becomes the one layer of an image, DIR.{tar.gz,config.json,manifest.json}.
make_image() {
  local architecture=$1 image=$2
  tar -C "$image" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$image.tar" . || return 1
  gzip -n -k -f "$image.tar" || return 1
  printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/bin/sh"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["%s"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"bk-sync test bed: %s"}]}' \
    "$architecture" "$(digest_of "$image.tar")" "${image##*/}" >"$image.config.json"
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":%s}]}' \
    "$(digest_of "$image.config.json")" "$(stat -c %s "$image.config.json")" \
    "$(digest_of "$image.tar.gz")" "$(stat -c %s "$image.tar.gz")" >"$image.manifest.json"
  rm -rf "$image.tar" "$image"
}

# make_rootfs ARCHITECTURE DIR: busybox with a link for each applet, the usual directories and accounts.
make_rootfs() {
  local busybox=$BED_ROOT/$1/bin/busybox dir=$2 applet
  mkdir -p "$dir"/{bin,sbin,usr/bin,usr/sbin,etc,root,tmp,var/tmp,run,home,proc,sys,dev} || return 1
  chmod 1777 "$dir/tmp" "$dir/var/tmp"
  chmod 700 "$dir/root"
  cp "$busybox" "$dir/bin/busybox" || return 1
  # Both architectures are the same version with the same applets, so the native one lists them.
  for applet in $("$BED_ROOT/amd64/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$dir/bin/$applet"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\napp:x:1000:1000:app:/home:/bin/sh\n' >"$dir/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\napp:x:1000:\n' >"$dir/etc/group"
  printf 'ID=busybox\nNAME="bk-sync test base"\n' >"$dir/etc/os-release"
}

digest_of() { sha256sum "$1" | sed 's/^\([0-9a-f]*\).*/sha256:\1/'; }

# push_image PORT REPOSITORY TAG IMAGE CURL_OPTION…
push_image() {
  local port=$1 repository=$2 tag=$3 image=$4
  shift 4
  push_blob "$port" "$repository" "$image.tar.gz" "$@" \
    && push_blob "$port" "$repository" "$image.config.json" "$@" \
    && push_manifest "$port" "$repository" "$tag" image.manifest "$image.manifest.json" "$@"
}

push_blob() {
  local port=$1 repository=$2 file=$3 digest location
  shift 3
  digest=$(digest_of "$file")
  ! curl -fsS -o /dev/null --head "$@" "http://127.0.0.1:$port/v2/$repository/blobs/$digest" 2>/dev/null || return 0
  location=$(curl -fsS -o /dev/null -X POST -D - "$@" "http://127.0.0.1:$port/v2/$repository/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
  [ -n "$location" ] && curl -fsS -o /dev/null -X PUT "$@" -H 'Content-Type: application/octet-stream' --data-binary "@$file" "$location&digest=$digest"
}

push_manifest() {
  local port=$1 repository=$2 tag=$3 kind=$4 file=$5
  shift 5
  curl -fsS -o /dev/null -X PUT "$@" -H "Content-Type: application/vnd.oci.$kind.v1+json" --data-binary "@$file" "http://127.0.0.1:$port/v2/$repository/manifests/$tag"
}
