#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Pins the control plane to another Kubernetes release: writes new controlplane.mod and
# controlplane.sum. Needs bash and Go; builds nothing.
#
#   hack/controlplane/update.sh v1.36.3

set -o errexit -o nounset -o pipefail

version="${1-}"
if [[ ! "${version}" =~ ^v1\.[0-9]+\.[0-9]+$ ]]; then
  echo "usage: $0 v1.Y.Z" >&2
  exit 2
fi

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "${work}"' EXIT
cd "${work}"
export GOWORK=off GOFLAGS=-mod=mod

go mod download -json "k8s.io/kubernetes@${version}" >download.json
upstream="$(sed -n 's/^[[:space:]]*"GoMod": "\(.*\)",\{0,1\}$/\1/p' download.json)"

# The go.mod of Kubernetes has its versions of Go and etcd. It replaces the modules of its repository
# by folders, which only that repository has; here, they are pinned by version.
etcd="$(sed -n 's/^[[:space:]]*go\.etcd\.io\/etcd\/client\/v3 \(v[^ ]*\).*/\1/p' "${upstream}")"
{
  echo "// Written by update.sh, don't edit. What the control plane's binaries are built from."
  echo
  echo "module controlplane-binaries"
  grep -E '^(go|godebug) ' "${upstream}"
  echo "tool ("
  echo "go.etcd.io/etcd/server/v3"
  echo "k8s.io/kubernetes/cmd/kube-apiserver"
  echo "k8s.io/kubernetes/cmd/kubectl"
  echo ")"
  echo "require ("
  echo "go.etcd.io/etcd/server/v3 ${etcd}"
  echo "k8s.io/kubernetes ${version}"
  echo ")"
  echo "replace ("
  sed -n "s/^[[:space:]]*\(k8s\.io\/[^ ]*\) => \.\/staging\/.*/\1 => \1 v0.${version#v1.}/p" "${upstream}"
  echo ")"
} >go.mod
go mod tidy

# go mod tidy must not have raised the versions.
for want in "k8s.io/kubernetes ${version}" "go.etcd.io/etcd/server/v3 ${etcd}"; do
  if ! grep -qF "${want}" go.mod; then
    echo "go mod tidy did not keep ${want}" >&2
    exit 1
  fi
done

cp go.mod "${here}/controlplane.mod"
cp go.sum "${here}/controlplane.sum"
echo "pinned Kubernetes ${version} with etcd ${etcd}"
