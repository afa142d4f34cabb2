# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Names for the scripts in hack/, for readers who look for a Makefile first.

.PHONY: all generate verify test quickstart
all: test

generate:
	./hack/update-codegen.sh

verify:
	./hack/verify-codegen.sh

test:
	./hack/test.sh

quickstart:
	@echo "Compiling the quickstart: the first time, this takes 1 to 3 minutes without output."
	GOWORK=off go -C examples run ./quickstart
