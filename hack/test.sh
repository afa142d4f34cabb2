#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Runs every check that this repository has, or those that are named, and ends with
# a summary of what ran and how long it took:
#
#   ./hack/test.sh                    everything
#   ./hack/test.sh unit integration   these parts
#   ./hack/test.sh --list             what parts there are
#
# Needs Go, git and bash; it builds everything else. It fails when a part fails or
# did not run. All parts run, also after one that fails.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export GOWORK=off
# Nested modules, which users never import; the root module is the SDK itself.
nested=(examples hack/codegen hack/controlplane hack/integration)

# Every part is a function of its name below.
parts=(format tidy vet lint codegen unit controlplane integration examples compat)

part_format() { # gofmt changes nothing, and scripts parse
  local files
  files=$(git ls-files --cached --others --exclude-standard '*.go' | while IFS= read -r f; do
    if [[ -e $f ]]; then echo "$f"; fi
  done | xargs gofmt -l)
  [[ -z $files ]] || { echo "gofmt would change:" "$files"; return 1; }
  git ls-files --cached --others --exclude-standard '*.sh' .ci/run | xargs -n 1 bash -n
}

part_tidy() { # go.mod and go.sum are what go mod tidy makes
  each_module . "${nested[@]}" hack/lint -- go mod tidy -diff
}

part_vet() { # go vet of every module
  each_module . "${nested[@]}" -- go vet ./...
}

part_lint() { # golangci-lint of every module, with one configuration
  # Built once, then kept in Go's build cache.
  each_module . "${nested[@]}" -- \
    go tool -modfile="$PWD/hack/lint/go.mod" golangci-lint run --config "$PWD/.golangci.yml" ./...
}

part_codegen() { # what is generated is current
  hack/verify-codegen.sh
}

part_unit() { # tests of the SDK without a cluster
  need_c_compiler && go test -race -count=1 ./...
}

part_controlplane() { # tests of the harness that runs real control planes
  need_c_compiler && go -C hack/controlplane test -race -count=1 -timeout=40m ./...
}

part_integration() { # tests of the SDK on a real API server
  need_c_compiler && go -C hack/integration test -race -count=1 -timeout=40m ./...
}

part_examples() { # every example runs, on real control planes
  go -C examples test -count=1 -timeout=40m ./...
}

part_compat() { # every client-go that a release supports
  hack/verify-compat.sh
}

# each_module DIR... -- COMMAND...: runs it in each and fails if it failed in one.
each_module() {
  local dirs=() status=0
  while [[ $1 != -- ]]; do dirs+=("$1"); shift; done
  shift
  for dir in "${dirs[@]}"; do
    (cd "$dir" && "$@") || { echo "failed in $dir: $*"; status=1; }
  done
  return $status
}

# The race detector is linked with C on Linux. A machine without a compiler gets one
# where that takes no questions; elsewhere the part fails, and says what to do.
need_c_compiler() {
  [[ $(go env GOOS) == linux ]] || return 0
  command -v "$(go env CC)" >/dev/null && return 0
  echo "The race detector needs a C compiler; there is no $(go env CC)."
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing gcc with apt-get."
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y gcc libc6-dev && return 0
  fi
  echo "Install gcc or clang, or name one in CC." >&2
  return 1
}

if [[ ${1-} == --list ]]; then
  for part in "${parts[@]}"; do
    printf '%-13s %s\n' "$part" "$(sed -n "s/^part_$part() { # //p" hack/test.sh)"
  done
  exit 0
fi
chosen=("$@")
((${#chosen[@]})) || chosen=("${parts[@]}")
for part in "${chosen[@]}"; do
  declare -F "part_$part" >/dev/null || { echo "test.sh: no part $part; the parts are: ${parts[*]}" >&2; exit 2; }
done

summary=()
status=0
for part in "${chosen[@]}"; do
  printf '\n=== %s\n' "$part"
  SECONDS=0
  # In a shell of its own, so that a failing line ends the part and not the run.
  if (set +o errexit; "part_$part"); then result=passed; else result=FAILED status=1; fi
  summary+=("$(printf '%-13s %-7s %4d s' "$part" "$result" "$SECONDS")")
done

printf '\n=== summary\n'
printf '%s\n' "${summary[@]}"
((${#chosen[@]} == ${#parts[@]})) || echo "(only ${#chosen[@]} of ${#parts[@]} parts; the others were not asked for)"
exit $status
