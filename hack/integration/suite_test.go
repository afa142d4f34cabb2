// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import "testing"

func TestReadsAndWritesWithConditionsMergedByType(t *testing.T) {
	testReadsAndWrites(t, shared)
}

// testReadsAndWrites tests what holds with every definition of DataPlane that has the
// shape of the Go types.
func testReadsAndWrites(t *testing.T, p *plane) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *space)
	}{
		{"create, get and list return what is stored", testCreateGetList},
		{"what is absent is not found, what exists is not created again", testAbsentAndExisting},
		{"update replaces spec and metadata", testUpdate},
		{"update of a stale object conflicts", testStaleUpdate},
		{"merge patch changes what it names", testMergePatch},
		{"JSON patch changes what it names if its tests hold", testJSONPatch},
		{"strategic merge patch is not supported", testStrategicMergePatch},
		{"delete removes the object if its preconditions hold", testDelete},
		{"delete waits for finalizers", testFinalizers},
		{"delete collection removes what is selected", testDeleteCollection},
		{"list comes in pages of one resource version", testPages},
		{"list selects by label and name", testSelectors},

		{"create drops the status", testCreateDropsStatus},
		{"update leaves the status alone", testUpdateLeavesStatus},
		{"status update leaves all but the status alone", testUpdateStatusLeavesRest},
		{"status patch leaves all but the status alone", testPatchStatus},
		{"stale status update conflicts", testStaleStatusUpdate},
		{"apply leaves the status alone", testApplyLeavesStatus},
		{"status apply leaves all but the status alone", testApplyStatusLeavesRest},
		{"generation counts changes of the spec only", testGeneration},

		{"apply creates and changes", testApply},
		{"apply of another's field conflicts unless forced", testApplyConflict},
		{"apply removes what it no longer names", testApplyRemoves},
		{"extract gives what a manager applied", testExtract},
		{"extract gives the status that a manager applied", testExtractStatus},
		{"a manager of spec and status keeps them apart", testOneManagerOfBoth},

		{"watch sends what happened after its resource version, in order", testWatchFromResourceVersion},
		{"watch sends only what is selected", testWatchSelects},
		{"watch sends initial events and a bookmark", testWatchInitialEvents},
		{"watch from a forgotten resource version is expired", testWatchExpired},
		{"informer follows", testInformer},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, p.space(t)) })
	}
}
