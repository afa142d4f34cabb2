// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

// Assign is total: what Leases can say in a test is only a part of its inputs.
var Assign = assign
