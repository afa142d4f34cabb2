#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Builds every public package with each supported client-go, tests it in a user's module, prints a
# table, and compares the table with the README's. Arguments are minors ("0.36"), or "next", the
# minor after the supported ones; all by default. next uses the newest version that can be fetched,
# even a beta, with the Go that it requires. Its failure counts only if next is an argument.
#
#   build       this module with its requirements raised
#   consumer    another module that requires this one and that client-go
#   controller  examples/controller-runtime with the controller-runtime for that client-go, and the
#               tests of its controller, on real API servers
#
# With the latest minor and the next, and with --tests before the arguments, all unit tests run in
# place of the build; hack/test.sh unit runs them with the earliest. With the latest, the tests of
# hack/integration run too; hack/test.sh integration runs them with the earliest. CI runs --tests
# with each minor, the latest with GOFLAGS=-race.
#
# Needs the Go that client-go requires; next gets a later Go by GOTOOLCHAIN.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The latest patch of each minor, updated by hand, so that a run is repeatable.
supported=(v0.33.13 v0.34.13 v0.35.10 v0.36.6 v0.37.2)
controller_runtimes=(v0.21.0 v0.22.5 v0.23.3 v0.24.1 v0.25.2) # one for each client-go, in the same order
latest=${supported[${#supported[@]} - 1]}

module=github.com/openchoreo/dataplane-sdk-go
root=$PWD
GOFLAGS="$(go env GOFLAGS) -mod=mod -vet=off" # vet would read each client-go completely
export GOWORK=off GOFLAGS

next=no tests=""
if [[ ${1-} == --tests ]]; then tests=yes; shift; fi
if (($#)); then
  versions=()
  for minor; do
    if [[ $minor == next ]]; then next=yes; continue; fi
    for version in "${supported[@]}"; do
      [[ $version == v"${minor#v}".* ]] && versions+=("$version") && continue 2
    done
    echo "verify-compat: client-go $minor is not supported; these are: ${supported[*]}" >&2
    exit 2
  done
else
  versions=("${supported[@]}") next=yes
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# as_this_module VERSION: builds or tests this module with VERSION of client-go.
as_this_module() {
  local mod=$tmp/$1/this.mod
  cp go.mod "$mod" && cp go.sum "${mod%.mod}.sum" || return
  go get -modfile="$mod" "k8s.io/client-go@$1" "k8s.io/api@$1" "k8s.io/apimachinery@$1" $(raised "$1") &&
    go mod tidy -modfile="$mod" && check_version k8s.io/client-go "$1" -modfile="$mod" &&
    if [[ -n $tests || $1 == "$latest" || " ${supported[*]} " != *" $1 "* ]]; then
      go test -modfile="$mod" -count=1 ./...
    else
      go build -modfile="$mod" ./...
    fi &&
    if [[ $1 == "$latest" ]]; then on_real_api_servers "$1"; fi
}

on_real_api_servers() {
  local mod=$tmp/$1/integration.mod
  cd hack/integration && cp go.mod "$mod" && cp go.sum "${mod%.mod}.sum" || return
  go get -modfile="$mod" "k8s.io/client-go@$1" "sigs.k8s.io/controller-runtime@$(controller_runtime_for "$1")" &&
    go mod tidy -modfile="$mod" && check_version k8s.io/client-go "$1" -modfile="$mod" &&
    go test -modfile="$mod" -count=1 -parallel=4 -timeout=40m . -fleet.duration=25s
}

# as_consumer VERSION: tests another module, which requires this one and VERSION of client-go.
as_consumer() {
  local dir=$tmp/$1/consumer
  mkdir -p "$dir" && cp hack/compat/consumer_test.go.txt "$dir/consumer_test.go" && cd "$dir" || return
  go mod init example.com/consumer &&
    go mod edit -require="$module@v0.0.0" -replace="$module=$root" &&
    go get "k8s.io/client-go@$1" $(raised "$1") && go mod tidy && check_version k8s.io/client-go "$1" &&
    go test -count=1 ./... || return
  go list -m all | wc -l | tr -d ' ' >"$tmp/$1/modules"
}

# as_controller VERSION: tests the example with the controller-runtime for VERSION of client-go.
as_controller() {
  local mod=$tmp/$1/controller.mod controller_runtime tags=
  controller_runtime=$(controller_runtime_for "$1")
  case $controller_runtime in
    v0.21.*) tags=controller_runtime_v0.21 ;; # its clients have no method Apply
  esac
  # Indirect requirements belong to the direct requirements of examples/go.mod, which may be later
  # versions.
  cd examples && sed '/\/\/ indirect$/d' go.mod >"$mod" && cp go.sum "${mod%.mod}.sum" || return
  # In the environment, because the tests build the program themselves.
  export GOFLAGS="$GOFLAGS '-modfile=$mod' -tags=$tags" # quoted: a path may have a space
  go get "sigs.k8s.io/controller-runtime@$controller_runtime" \
    "k8s.io/client-go@$1" "k8s.io/api@$1" "k8s.io/apimachinery@$1" $(raised "$1") &&
    go mod tidy && check_version k8s.io/client-go "$1" && check_version sigs.k8s.io/controller-runtime "$controller_runtime" &&
    go test -count=1 -timeout=40m -run='^TestController$' ./controller-runtime
}

# raised VERSION: prints modules of which controller-runtime requires a later version than VERSION of
# client-go. build and consumer use the later version too, so that client-go is compiled once. The
# version that client-go requires isn't tested.
raised() {
  case $1 in
    v0.35.*) echo sigs.k8s.io/structured-merge-diff/v6@v6.3.2-0.20260122202528-d9cc6641c482 ;;
  esac
}

controller_runtime_for() { # VERSION of client-go
  local i
  for i in "${!supported[@]}"; do
    if [[ ${supported[i]} == "$1" ]]; then echo "${controller_runtimes[i]}"; fi
  done
}

# check_version MODULE VERSION [FLAG...]: fails unless the build uses VERSION, which the table shows.
check_version() {
  local module=$1 want=$2 got
  shift 2
  got=$(go list "$@" -m -f '{{.Version}}' "$module")
  [[ $got == "$want" ]] || { echo "built with $module $got, want $want" >&2; return 1; }
}

baseline() { # VERSION: counts the modules of a program with client-go only
  mkdir -p "$tmp/$1/baseline" && cd "$tmp/$1/baseline" &&
    go mod init example.com/baseline && go mod edit -require="k8s.io/client-go@$1" &&
    printf 'package baseline\n\nimport _ "k8s.io/client-go/kubernetes"\n' >baseline.go &&
    go mod tidy || return
  go list -m all | wc -l | tr -d ' ' >"$tmp/$1/alone"
}

status=0
step() { # VERSION NAME COMMAND...: prints ok or FAILED, and the output of a COMMAND that fails
  local log=$tmp/$1/$2.log
  if ("${@:3}") >"$log" 2>&1; then
    echo ok
  else
    echo FAILED
    { echo; echo "--- client-go $1, $2:"; cat "$log"; echo "---"; } >&2
  fi
}

# try_next tries the minor after the supported ones, and prints the results or the missing modules.
try_next() {
  local minor=${latest#v0.} next version output missing build consumer
  next=v0.$((${minor%%.*} + 1))
  export GOTOOLCHAIN=auto
  mkdir "$tmp/next" && cd "$tmp/next" || return
  version=$(go list -m -versions -f '{{join .Versions "\n"}}' k8s.io/client-go@latest | grep "^$next\." | tail -n 1) # a beta only without a release
  if [[ -z $version ]]; then
    echo "client-go $next is not tried: k8s.io/client-go has no such version"
    return
  fi
  printf 'package next\n\nimport _ "k8s.io/client-go/kubernetes"\n' >next.go
  if ! output=$( (go mod init example.com/next && go get "k8s.io/client-go@$version" && go mod tidy) 2>&1); then
    # A line for each missing module, without the imports that lead to it.
    missing=$(sed -n 's/^.*: \([^ :]*@v[^ :]*: .*\)/  \1/p' <<<"$output" | sort -u)
    printf 'client-go %s is not tried, because these modules are missing:\n%s\n' "$version" "${missing:-$output}"
    return
  fi
  GOTOOLCHAIN=$(go env GOVERSION) || return # the go line of a -modfile selects no toolchain
  cd "$root" && mkdir "$tmp/$version" || return
  build=$(step "$version" build as_this_module "$version")
  consumer=$(step "$version" consumer as_consumer "$version")
  echo "client-go $version is not supported yet: build $build, consumer $consumer"
  [[ $build$consumer == okok ]]
}

table_row() { printf '%-10s  %-6s  %-8s  %-18s  %-10s  %7s  %s\n' "$@"; }

rows=()
for version in ${versions[@]+"${versions[@]}"}; do
  mkdir -p "$tmp/$version"
  echo "client-go $version ..." >&2
  build=$(step "$version" build as_this_module "$version")
  consumer=$(step "$version" consumer as_consumer "$version")
  controller=$(step "$version" controller as_controller "$version")
  controller_runtime=$(controller_runtime_for "$version")
  alone=$(step "$version" baseline baseline "$version")
  modules=- only=-
  if [[ $build$consumer$controller$alone == okokokok ]]; then
    modules=$(<"$tmp/$version/modules") only=$(<"$tmp/$version/alone")
    row="| $version | $controller_runtime | $modules | $only |"
    grep --quiet --fixed-strings --line-regexp "$row" README.md ||
      { echo "verify-compat: README.md has no row: $row" >&2; status=1; }
  else
    status=1
  fi
  rows+=("$(table_row "$version" "$build" "$consumer" "$controller_runtime" "$controller" "$modules" "$only")")
done

if (($(grep --count '^| v0\.[0-9.]* | v0\.' README.md) != ${#supported[@]})); then
  echo "verify-compat: README.md doesn't have one row for each supported version" >&2
  status=1
fi

if ((${#rows[@]})); then
  echo
  table_row client-go build consumer controller-runtime controller modules "with client-go alone"
  printf '%s\n' "${rows[@]}"
fi
if [[ $next == yes ]] && ! (try_next); then
  echo "verify-compat: the next client-go doesn't work yet" >&2
  if [[ " $* " == *" next "* ]]; then status=1; fi
fi
exit $status
