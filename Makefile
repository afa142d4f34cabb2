# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Names for the scripts in hack/, for those who look for a Makefile first.

.PHONY: all generate verify test quickstart
all: test

generate:
	./hack/update-codegen.sh

verify:
	./hack/verify-codegen.sh

test:
	./hack/test.sh

quickstart:
	GOWORK=off go -C examples run ./quickstart
