#!/bin/sh
# Runs a fuzz target on the stable compiler: fuzz/run.sh TARGET [SECONDS]
#
# New inputs go to fuzz/target/corpus, so that the committed seeds stay few; what breaks a promise is
# left in fuzz/artifacts.
set -eu
cd "$(dirname "$0")"
target=${1:?name a target: dockerfile, expand, ignorefile or reference}
seconds=${2:-600}
host=$(rustc -vV | sed -n 's/^host: //p')

# Only our own code is measured: the wrapper sees no dependency.
mkdir -p target
wrapper=$PWD/target/instrument
cat >"$wrapper" <<'WRAPPER'
#!/bin/sh
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1 \
  -Cdebug-assertions=on -Coverflow-checks=on
WRAPPER
chmod +x "$wrapper"
RUSTC_WORKSPACE_WRAPPER=$wrapper cargo build --release --target "$host" --bin "$target"

mkdir -p "target/corpus/$target" "artifacts/$target"
set -- "target/corpus/$target" "corpus/$target" -max_total_time="$seconds" -artifact_prefix="artifacts/$target/"
if [ "$target" = dockerfile ]; then set -- "$@" -dict=dockerfile.dict; fi
exec "target/$host/release/$target" "$@"
