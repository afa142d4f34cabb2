#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Runs checks of this repository, and ends with a summary of the parts that ran, their times, and the
# parts that didn't run:
#
#   ./hack/test.sh                    the parts to run while you work on a change
#   ./hack/test.sh all                all parts, as in CI
#   ./hack/test.sh unit integration   these parts
#   ./hack/test.sh --list             lists the parts; * marks the parts of a run without arguments
#
# All chosen parts run, even after one that fails. The run fails if a part fails or didn't run. A
# part that can't reach what it needs is "not checked", which is no failure. "all" leaves out the
# short variants of parts. Two parts run at a time, if possible one that waits for API servers and one
# that computes; their output is printed in order.
#
# Needs Go 1.26, git, bash and, on Linux, a C compiler for the race detector, which it installs with
# apt-get if it can. It builds everything else.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export GOWORK=off
# go test doesn't vet, because vet reads all dependencies again; the part lint does it, or the part vet.
#
# From empty caches, most of the time goes to compilers and the linter. Kubernetes' packages compile in
# a sixth less time without inlining, all packages in a twentieth less time without debugging
# information, and in a fifth less time without garbage collection below GOMEMLIMIT, a soft limit for
# each process. Compilers seldom reach 1 GiB; set GOMEMLIMIT lower on a machine with many cores and
# little memory. Tests run with garbage collection, because they and the API servers that they start
# would take too much memory.
GOFLAGS="$(go env GOFLAGS) -vet=off -gcflags=all=-dwarf=false '-gcflags=k8s.io/...=-l -dwarf=false' '-exec=env GOGC=${GOGC-400}'"
export GOFLAGS GOGC=off GOMEMLIMIT=${GOMEMLIMIT-3GiB}
# Nested modules, which users never import; the root module is the SDK itself.
nested=(examples hack/bench hack/codegen hack/controlplane hack/integration hack/release hack/tools)

# Every part is a function of its name below.
parts=(format tidy codegen api vuln compat lint unit bench controlplane integration templates quickstart demos release)
variants=(vet unit-short integration-short templates-short) # short forms of other parts
# unit-short comes first, because it compiles for the race detector: vet would compile the same packages
# at the same time as integration-short, which runs beside it.
quick=(format unit-short vet codegen integration-short templates-short quickstart)
waiting=(controlplane integration integration-short templates templates-short quickstart demos release) # wait for API servers more than they compute

readonly not_checked=77 # the status of a part that is "not checked"

part_format() { # gofmt changes nothing, and scripts parse
  local go_files scripts unformatted
  go_files=$(tracked '*.go')
  scripts=$(tracked '*.sh' .ci/run)
  unformatted=$(xargs "$(go env GOROOT)/bin/gofmt" -l <<<"$go_files")
  [[ -z $unformatted ]] || { echo "gofmt would change:" "$unformatted"; return 1; }
  xargs -n 1 bash -n <<<"$scripts"
}

# tracked PATTERN...: prints the files that git knows or would add; fails if there are none.
tracked() {
  local file files=()
  while IFS= read -r file; do
    if [[ -e $file ]]; then files+=("$file"); fi
  done < <(git ls-files --cached --others --exclude-standard -- "$@")
  ((${#files[@]})) || { echo "git knows no file like $*" >&2; return 1; }
  printf '%s\n' "${files[@]}"
}

part_tidy() { # go mod tidy changes nothing
  each_module . "${nested[@]}" hack/lint -- go mod tidy -diff
}

part_vet() { # go vet of the root module; lint includes it, except for generated code
  go vet ./...
}

part_lint() { # golangci-lint of every module, with one configuration
  # Built once, then kept in Go's build cache.
  each_module . "${nested[@]}" -- \
    go tool -modfile="$PWD/hack/lint/go.mod" golangci-lint run --allow-parallel-runners --config "$PWD/.golangci.yml" ./...
}

part_codegen() { # generated code is current
  hack/verify-codegen.sh
}

part_api() { # the exported API and the CRD are compatible
  go -C hack/tools test ./...
  hack/verify-api.sh
}

part_vuln() { # the SDK calls no code with a known vulnerability
  local output status=0
  output=$(go tool -modfile="$PWD/hack/tools/go.mod" govulncheck ./... 2>&1) || status=$?
  echo "$output"
  if [[ $output == *"fetching vulnerabilities: "* ]]; then
    echo "Not checked: the database of vulnerabilities is out of reach."
    return $not_checked
  fi
  return $status
}

part_unit() { # tests of the SDK without a cluster, under the race detector
  unit
}

part_unit-short() { # unit with fewer repetitions, and without the longest test
  unit -short
}

unit() {
  go test -race "$@" -count=1 ./...
}

part_controlplane() { # tests of the harness that runs real control planes
  go -C hack/controlplane test -race -count=1 -timeout=40m ./...
}

part_integration() { # tests of the SDK on a real API server, under the race detector
  integration -race
}

part_integration-short() { # integration without the race detector and the longest tests
  integration -short
}

integration() {
  go -C hack/integration test "$@" -count=1 ./differential
  go -C hack/integration test "$@" -count=1 -parallel=4 -timeout=40m . -fleet.duration=25s
}

part_templates() { # the templates and the packages that examples share, on real control planes
  templates
}

part_templates-short() { # templates with fewer API servers, and without the outage of watch-workloads
  templates -short -parallel=4
}

templates() {
  go -C examples test "$@" -count=1 -timeout=40m . ./collector ./envtest ./internal/... ./unittest
}

part_quickstart() { # the quickstart
  go -C examples test -count=1 -timeout=40m ./quickstart
}

part_demos() { # the demos, on real control planes
  go -C examples test -count=1 -timeout=40m ./controller-runtime ./fleet ./probe-controller ./watch
}

part_bench() { # the benchmarks' own tests; hack/bench.sh runs the benchmarks
  go -C hack/bench test -count=1 ./...
}

part_release() { # the README's program with the last commit, by go get; release.sh and verify-api.sh
  go -C hack/release test -count=1 -timeout=40m -v ./...
}

part_compat() { # every client-go that a release supports
  hack/verify-compat.sh
}

# each_module DIR... -- COMMAND...: runs COMMAND in each DIR, and fails if it fails in one.
each_module() {
  local dirs=() status=0
  while [[ $1 != -- ]]; do dirs+=("$1"); shift; done
  shift
  for dir in "${dirs[@]}"; do
    (cd "$dir" && "$@") || { echo "failed in $dir: $*"; status=1; }
  done
  return $status
}

# The race detector is linked with C on Linux. Root on a system with apt-get gets a compiler;
# elsewhere, the parts that use the race detector fail without one.
need_c_compiler() {
  [[ $(go env GOOS) == linux ]] || return 0
  local compiler
  read -r compiler _ <<<"$(go env CC)" # CC may have flags
  if command -v "$compiler" >/dev/null; then return 0; fi
  echo "The race detector needs a C compiler; there is no $compiler."
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing gcc with apt-get."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y gcc libc6-dev
    return
  fi
  echo "Install gcc or clang, or name one in CC." >&2
  return 1
}

case ${1-} in
  --list)
    for part in "${parts[@]}" "${variants[@]}"; do
      mark=" "
      if [[ " ${quick[*]} " == *" $part "* ]]; then mark="*"; fi
      printf '%s %-18s %s\n' "$mark" "$part" "$(sed -n "s/^part_$part() { # //p" hack/test.sh)"
    done
    exit 0
    ;;
  -h | --help)
    sed -n '/^# Runs/,/^$/s/^# \{0,1\}//p' hack/test.sh
    exit 0
    ;;
esac

chosen=()
case ${1-} in
  "") chosen=("${quick[@]}") ;;
  all) chosen=("${parts[@]}") ;;
  *)
    for part; do
      [[ " ${parts[*]} ${variants[*]} " == *" $part "* ]] ||
        { echo "test.sh: no part $part; the parts are: ${parts[*]} ${variants[*]}" >&2; exit 2; }
      [[ " ${chosen[*]-} " == *" $part "* ]] || chosen+=("$part")
    done
    ;;
esac

tmp=$(mktemp -d)
# Each background job gets a process group, so that a signal reaches all its processes. They ignore
# SIGINT if this script was started in the background of another script, so they get SIGTERM.
set -o monitor
groups="" # of the background jobs
# end ends all jobs, and kills them after ten seconds. It ends a group even if its first process is
# gone, as after pkill -f test.sh.
end() {
  local group running
  groups+=" $(jobs -p)" # one that a signal kept from being added
  for group in $groups; do kill -TERM -- "-$group" 2>/dev/null || true; done
  for _ in {1..50}; do
    running=""
    for group in $groups; do
      if kill -0 -- "-$group" 2>/dev/null; then running=yes; fi
    done
    [[ -n $running ]] || break
    sleep 0.2
  done
  for group in $groups; do kill -KILL -- "-$group" 2>/dev/null || true; done
  wait
  rm -rf "$tmp"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# run PART...: runs parts one after the other. The output goes to PART.log, then the status and the
# time to PART. It skips parts that another run has begun.
run() {
  local part before result
  for part; do
    mkdir "$tmp/$part.begun" 2>/dev/null || continue
    before=$SECONDS
    # Not in a condition, where bash ignores errexit: a failing line must end the part. Without
    # errexit out here: a failing part must not end the run.
    set +o errexit
    (set -o errexit; "part_$part") >"$tmp/$part.log" 2>&1
    result=$?
    set -o errexit
    echo "$result $((SECONDS - before))" >"$tmp/$part.part"
    mv "$tmp/$part.part" "$tmp/$part"
  done
}

case " ${chosen[*]} " in
  *" unit "* | *" unit-short "* | *" controlplane "* | *" integration "*) need_c_compiler || true ;;
esac

beside=() computing=()
for part in "${chosen[@]}"; do
  : >"$tmp/$part.log"
  if [[ " ${waiting[*]} " == *" $part "* ]]; then beside+=("$part"); else computing+=("$part"); fi
done
started=$SECONDS
# A run without parts left takes parts that the other run hasn't begun.
run ${computing[@]+"${computing[@]}"} ${beside[@]+"${beside[@]}"} </dev/null &
groups+=" $!"
run ${beside[@]+"${beside[@]}"} ${computing[@]+"${computing[@]}"} </dev/null &
groups+=" $!"

# follow PART: prints the output of a part until the part has ended.
follow() {
  until [[ -e $tmp/$1 || -z $(jobs -r) ]]; do cat; sleep 0.5; done
  cat
}

summary=()
status=0
for part in "${chosen[@]}"; do
  printf '\n=== %s\n' "$part"
  follow "$part" <"$tmp/$part.log"
  read -r result took <"$tmp/$part" || result="" took=0
  case $result in
    0) result=passed ;;
    "$not_checked") result="not checked" ;;
    *) result=FAILED status=1 ;;
  esac
  summary+=("$(printf '%-18s %-11s %5d s' "$part" "$result" "$took")")
done

printf '\n=== summary\n'
printf '%s\n' "${summary[@]}"
printf '%-18s %-11s %5d s\n' "" total "$((SECONDS - started))"
left_out=()
for part in "${parts[@]}"; do
  [[ " ${chosen[*]} " == *" $part "* ]] || left_out+=("$part")
done
((${#left_out[@]} == 0)) || echo "Not run: ${left_out[*]}; ./hack/test.sh all runs all parts."
exit $status
