#!/usr/bin/env bash
# What it costs to build a crate with tokio and one more dev-dependency, in CPU seconds, and relative to that crate alone. Each is
# built from nothing, in turn, ROUNDS times; the table has the medians. Needs the registry.
#
#   benches/build_cost.sh              # this crate, insta, proptest, rstest
#   benches/build_cost.sh turmoil wiremock
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
rounds=${ROUNDS:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

names=(none sim default insta proptest rstest "$@")
dependency() {
  case $1 in
    none) ;;
    sim) echo "supervise-harness = { path = \"$root\", default-features = false }" ;;
    default) echo "supervise-harness = { path = \"$root\" }" ;;
    *) echo "$1 = \"*\"" ;;
  esac
}

for name in "${names[@]}"; do
  mkdir -p "$work/$name/src"
  echo 'pub async fn nothing() {}' >"$work/$name/src/lib.rs"
  cat >"$work/$name/Cargo.toml" <<TOML
[package]
name = "cost"
version = "0.0.0"
edition = "2024"

[dependencies]
tokio = { version = "1", features = ["macros", "process", "rt", "time"] }

[dev-dependencies]
$(dependency "$name")

[workspace]
TOML
  (cd "$work/$name" && cargo fetch --quiet)
done

# The CPU seconds of a build of the tests, from nothing.
build() {
  cd "$work/$1"
  rm -rf target
  TIMEFORMAT='%U %S'
  { time cargo build --quiet --offline --tests >/dev/null 2>&1; } 2>&1 | awk '{ print $1 + $2 }'
}

for _ in $(seq "$rounds"); do
  for name in "${names[@]}"; do
    build "$name" >>"$work/$name.times"
  done
done

median() { sort -n "$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
base=$(median "$work/none.times")
printf '%-10s %8s %8s %7s\n' 'with' 'CPU s' 'ratio' 'crates'
for name in "${names[@]}"; do
  crates=$(cd "$work/$name" && cargo tree --offline --edges normal,build,dev --prefix none | sed 's/ (\*)//' | sort -u | wc -l)
  seconds=$(median "$work/$name.times")
  printf '%-10s %8.1f %8.1f %7d\n' "$name" "$seconds" "$(awk "BEGIN { print $seconds / $base }")" "$((crates - 1))"
done
