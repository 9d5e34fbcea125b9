# shellcheck shell=bash
# Debian packages, fetched with an apt state of their own and unpacked (never installed), and the Go parts.

readonly BED_APT=$BED_CACHE/apt
BED_ROOT=$BED_CACHE/root-$(printf '%s' "$BED_SUITE $BED_SUITE_DOCKER $BED_DOCKER_PACKAGES $BED_PACKAGES $BED_ARM64_PACKAGES" | sha256sum | cut -c1-12)
readonly BED_ROOT
BED_TOOLS=$BED_CACHE/tools-$(printf '%s' "$BED_SUITE $BED_SUITE_DOCKER $BED_TOOL_PACKAGES $BED_TEST_PACKAGES" | sha256sum | cut -c1-12)
readonly BED_TOOLS

# ensure_packages unpacks the packages under $BED_ROOT/{amd64,arm64} once, and fills $BED_BIN.
ensure_packages() {
  if [ ! -e "$BED_ROOT/.complete" ]; then
    say "packages: fetching Docker, containerd, registry, qemu and friends from Debian (about 150 MB, once)"
    rm -rf "$BED_ROOT"
    apt_update
    # shellcheck disable=SC2086
    {
      fetch_packages "$BED_ROOT" amd64 amd64 "$BED_SUITE_DOCKER" $BED_DOCKER_PACKAGES
      fetch_packages "$BED_ROOT" amd64 amd64 "$BED_SUITE" $BED_PACKAGES
      fetch_packages "$BED_ROOT" arm64 arm64 "$BED_SUITE" $BED_ARM64_PACKAGES
    }
    touch "$BED_ROOT/.complete"
  fi
  mkdir -p "$BED_BIN"
  local name
  for name in usr/bin/docker usr/libexec/docker/cli-plugins/docker-buildx usr/bin/docker-registry usr/bin/qemu-aarch64-static; do
    ln -sfn "$BED_ROOT/amd64/$name" "$BED_BIN/${name##*/}"
  done
  write_script "$BED_BIN/skopeo" "LD_LIBRARY_PATH=$BED_ROOT/amd64/usr/lib/x86_64-linux-gnu exec $BED_ROOT/amd64/usr/bin/skopeo --insecure-policy \"\$@\""
}

write_script() {
  printf '#!/bin/sh\n%s\n' "$2" >"$1.new"
  chmod +x "$1.new"
  mv -f "$1.new" "$1"
}

# ensure_tool_packages unpacks kubectl, the network plugins, strace, faketime, Podman and two shells under $BED_TOOLS once.
ensure_tool_packages() {
  local libraries=$BED_TOOLS/usr/lib/x86_64-linux-gnu
  if [ ! -e "$BED_TOOLS/.complete" ]; then
    say "packages: fetching kubectl, network plugins, strace, faketime, Podman, zsh and fish from Debian (about 50 MB, once)"
    rm -rf "$BED_TOOLS"
    apt_update
    # shellcheck disable=SC2086
    {
      fetch_packages "$BED_TOOLS" "" amd64 "$BED_SUITE_DOCKER" $BED_TOOL_PACKAGES
      fetch_packages "$BED_TOOLS" "" amd64 "$BED_SUITE" $BED_TEST_PACKAGES
    }
    # fish looks for both of its directories beside its own `bin`.
    ln -s ../etc "$BED_TOOLS/usr/etc"
    touch "$BED_TOOLS/.complete"
  fi
  # zsh looks for its modules where Debian installs them, or where this says.
  mkdir -p "$BED_TOOLS/zsh"
  echo "module_path=($libraries/zsh/5.9)" >"$BED_TOOLS/zsh/.zshenv"
  ln -sfn "$BED_TOOLS/usr/bin/kubectl" "$BED_BIN/kubectl"
  write_script "$BED_BIN/strace" "LD_LIBRARY_PATH=$libraries exec $BED_TOOLS/usr/bin/strace -E LD_LIBRARY_PATH \"\$@\""
  write_script "$BED_BIN/zsh" "ZDOTDIR=$BED_TOOLS/zsh exec $BED_TOOLS/bin/zsh \"\$@\""
  write_script "$BED_BIN/fish" "LD_LIBRARY_PATH=$libraries exec $BED_TOOLS/usr/bin/fish \"\$@\""
  write_script "$BED_BIN/faketime" "LD_PRELOAD=$libraries/faketime/libfaketime.so.1 FAKETIME=\"\$1\"; export LD_PRELOAD FAKETIME; shift; exec \"\$@\""
}

apt_options=(-qq -o "Dir::Etc::sourcelist=$BED_APT/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State=$BED_APT"
  -o "Dir::State::status=$BED_APT/status" -o "Dir::Cache=$BED_APT/cache" -o Dir::Etc::preferencesparts=/dev/null -o Dir::Etc::preferences=/dev/null
  -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root
  -o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache= -o Acquire::Languages=none -o Acquire::Retries=3)

apt_update() {
  local suite
  mkdir -p "$BED_APT/lists/partial" "$BED_APT/cache/archives/partial"
  touch "$BED_APT/status"
  for suite in "$BED_SUITE" "$BED_SUITE_DOCKER"; do
    echo "deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main"
  done >"$BED_APT/sources.list"
  apt-get "${apt_options[@]}" update >"$BED_LOGS/apt.log" 2>&1 || die "packages: the package lists cannot be fetched; the log is $BED_LOGS/apt.log"
}

# fetch_packages ROOT SUBDIRECTORY ARCH SUITE PACKAGE=VERSION…: unpacked under ROOT/SUBDIRECTORY. Without a version it
# is the suite's.
fetch_packages() {
  local root=$1/$2 architecture=$3 suite=$4 package name downloads wanted=()
  shift 4
  mkdir -p "$root"
  downloads=$(mktemp -d "$BED_CACHE/download.XXXXXX")
  for package in "$@"; do
    case $package in
      *=*) wanted+=("${package/=/:$architecture=}") ;;
      *:all) wanted+=("${package%:all}/$suite") ;;
      *) wanted+=("$package:$architecture/$suite") ;;
    esac
  done
  # All at once, because apt reads its lists anew each time; one by one only to see which one is gone.
  if ! (cd "$downloads" && apt-get "${apt_options[@]}" download "${wanted[@]}") >>"$BED_LOGS/apt.log" 2>&1; then
    for package in "${wanted[@]}"; do
      if ! (cd "$downloads" && apt-get "${apt_options[@]}" download "$package") >>"$BED_LOGS/apt.log" 2>&1; then
        name=${package%%=*}
        say "packages: the mirror has no $package any more; taking that of $suite"
        (cd "$downloads" && apt-get "${apt_options[@]}" download "$name/$suite") >>"$BED_LOGS/apt.log" 2>&1 \
          || die "packages: $name ($suite) cannot be fetched; the log is $BED_LOGS/apt.log"
      fi
    done
  fi
  for package in "$downloads"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$root" --keep-directory-symlink -xpf - || die "packages: $package cannot be unpacked"
  done
  rm -rf "$downloads"
}

# ensure_go_tools builds buildkitd, buildctl, the token server, the byte counter and the signer, once for each state of tests/bed.
ensure_go_tools() {
  local source=$BED_CHECKOUT/tests/bed key out go log=$BED_LOGS/go.log name
  key=$(cd "$source" && cat go.mod go.sum tools.go {tokenserver,bytecount,cosignature}/*.go | sha256sum | cut -c1-12)
  out=$BED_CACHE/go-$key
  if [ ! -e "$out/.complete" ]; then
    go=$(find_go)
    say "go tools: building buildkitd, buildctl and three small programs of ours with $("$go" env GOVERSION) (about 2 minutes, once)"
    mkdir -p "$out"
    (cd "$source" && CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off GOTOOLCHAIN=auto GOPATH="$BED_CACHE/go-path" GOCACHE="$BED_CACHE/go-build" GOBIN="$out" "$go" install -trimpath -ldflags='-s -w' \
      github.com/moby/buildkit/cmd/buildkitd github.com/moby/buildkit/cmd/buildctl ./tokenserver ./bytecount ./cosignature) >"$log" 2>&1 9>&- \
      || { tail -n 15 "$log" >&2; die "go tools: the build failed; its log is $log"; }
    touch "$out/.complete"
  fi
  for name in buildkitd buildctl tokenserver bytecount cosignature; do ln -sfn "$out/$name" "$BED_BIN/$name"; done
}

# ensure_cluster_tools builds the cluster's programs, kwok, the second registry and crane. The two first are large: the
# go.mod files are what makes them be built anew, and Go's build cache is kept for that.
ensure_cluster_tools() {
  local version
  version=$(sed -n 's|^\tk8s.io/kubernetes \(v[0-9.]*\)$|\1|p' "$BED_CHECKOUT/tests/bed/kubernetes/go.mod")
  [ -n "$version" ] || die "go tools: tests/bed/kubernetes/go.mod names no version of k8s.io/kubernetes"
  ensure_go_module registries "about a minute" "" \
    distribution=./distribution crane=github.com/google/go-containerregistry/cmd/crane
  ensure_go_module notation "about half a minute" "" notation=github.com/notaryproject/notation/cmd/notation
  ensure_go_module kwok "about 2 minutes" "" kwok=sigs.k8s.io/kwok/cmd/kwok
  ensure_go_module kubernetes "about 10 minutes" \
    "-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version") -X k8s.io/component-base/version.gitTreeState=clean" \
    etcd=go.etcd.io/etcd/server/v3 kube-apiserver=k8s.io/kubernetes/cmd/kube-apiserver kube-controller-manager=k8s.io/kubernetes/cmd/kube-controller-manager \
    kube-scheduler=k8s.io/kubernetes/cmd/kube-scheduler kubelet=k8s.io/kubernetes/cmd/kubelet
}

# ensure_go_module MODULE DURATION LINKER_FLAGS PROGRAM=PACKAGE…: built from tests/bed/MODULE, once for each state of its files.
ensure_go_module() {
  local module=$1 duration=$2 flags=$3 source=$BED_CHECKOUT/tests/bed/$1 key out go pair log=$BED_LOGS/go-$1.log
  shift 3
  key=$( (cd "$source" && find . -name '*.go' -o -name 'go.*' | LC_ALL=C sort | xargs cat && echo "$flags $*") | sha256sum | cut -c1-12)
  out=$BED_CACHE/go-$module-$key
  if [ ! -e "$out/.complete" ]; then
    go=$(find_go)
    say "go tools: building ${*%%=*} with $("$go" env GOVERSION) ($duration on two idle cores, once)"
    mkdir -p "$out"
    for pair in "$@"; do
      (cd "$source" && CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off GOTOOLCHAIN=auto GOPATH="$BED_CACHE/go-path" GOCACHE="$BED_CACHE/go-build" "$go" build -trimpath -ldflags="-s -w $flags" \
        -o "$out/${pair%%=*}" "${pair#*=}") >"$log" 2>&1 9>&- || { tail -n 15 "$log" >&2; die "go tools: ${pair%%=*} cannot be built; the log is $log"; }
    done
    touch "$out/.complete"
  fi
  for pair in "$@"; do ln -sfn "$out/${pair%%=*}" "$BED_BIN/${pair%%=*}"; done
}

# find_go prints a Go that is new enough to fetch the toolchain which go.mod asks for, or Debian's.
find_go() {
  local go minor root=$BED_CACHE/go-toolchain
  for go in "$(command -v go || true)" /usr/local/go/bin/go; do
    [ -n "$go" ] && [ -x "$go" ] || continue
    minor=$("$go" env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    if [ "${minor:-0}" -ge 21 ]; then echo "$go"; return; fi
  done
  if [ ! -e "$root/.complete" ]; then
    say "go tools: no Go of 1.21 or newer here; fetching Debian's"
    apt_update
    # shellcheck disable=SC2086
    fetch_packages "$root" amd64 amd64 "$BED_SUITE_DOCKER" $BED_GO_PACKAGES
    touch "$root/.complete"
  fi
  echo "$root/amd64/usr/lib/go-1.26/bin/go"
}
