// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// noRelease is in README.md until the first release.
const noRelease = "there is no release yet"

// hack/release.sh tags a commit only if it is prepared, complete, and checked in all parts.
func TestRelease(t *testing.T) {
	floor, _ := supported(t)
	tests := map[string]struct {
		args    string    // of release.sh; v0.2.0 if empty
		vuln    string    // the commands of part_vuln, the only part of .ci/run here
		changes string    // the content of CHANGELOG.md; a heading of v0.2.0 if empty
		readme  [2]string // a text in README.md, and its replacement
		last    string    // an earlier tag
		behind  bool      // origin's main lacks the last commit
		newFile bool      // adds a file that isn't committed
		says    string
		fails   bool
	}{
		"all is checked":      {last: "v0.1.9", says: "Tagged as v0.2.0."},
		"breaking changes":    {changes: "## v0.2.0\n### Breaking\n", says: "Tagged as v0.2.0."},
		"a later candidate":   {last: "v0.10.0-rc.1", says: "Tagged as v0.2.0."},
		"a tag of no release": {last: "v99-test", says: "Tagged as v0.2.0."},
		"dry run":             {args: "v0.2.0 --dry-run", says: "Ready to be tagged as v0.2.0."},

		"a part fails":                         {vuln: "return 1", says: "FAILED", fails: true},
		"a part fails, dry run":                {args: "v0.2.0 --dry-run", vuln: "return 1", says: "FAILED", fails: true},
		"a part is not checked":                {vuln: "return $not_checked", says: "not checked, so not tagged: vuln", fails: true},
		"a part is not checked, dry run":       {args: "v0.2.0 --dry-run", vuln: "return $not_checked", says: "once this is checked too: vuln."},
		"a file changes during the checks":     {vuln: "echo >>README.md", says: "changed during the checks", fails: true},
		"the commit changes during the checks": {vuln: "git commit --quiet --allow-empty -m new", says: "changed during the checks", fails: true},
		"a file is not committed":              {newFile: true, says: "there are uncommitted changes", fails: true},
		"an earlier version":                   {last: "v0.10.0", says: "v0.2.0 is not later than the last release, v0.10.0", fails: true},
		"a changelog without a heading":        {changes: "# Changelog\n", says: `begins with "no heading", not "## v0.2.0"`, fails: true},
		"a commit that isn't on main":          {behind: true, says: "the last commit isn't origin's main", fails: true},
		"a version without changes":            {args: "v0.3.0", says: `begins with "## v0.2.0", not "## v0.3.0"`, fails: true},
		"a patch with breaking changes":        {args: "v0.2.1", changes: "## v0.2.1\n### Breaking\n", says: "which v0.2.1 can't have", fails: true},
		"README has another Go":                {readme: [2]string{"requires Go 1.", "requires Go 0."}, says: "requires Go 1.", fails: true},
		"README has no row of a client-go":     {readme: [2]string{"\n| " + floor + " ", "\n| v0.0.0 "}, says: "no row of client-go " + floor, fails: true},
		"README has no release":                {readme: [2]string{"", noRelease}, says: `README.md says "there is no release yet": remove this`, fails: true},
		"README has no release, dry run":       {args: "v0.2.0 --dry-run", readme: [2]string{"", noRelease}, says: `note: README.md says "there is no release yet": remove this`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir, origin := clone(t), t.TempDir()
			run(t, origin, "git", "init", "--quiet", "--bare")
			run(t, dir, "git", "remote", "add", "origin", origin)
			if test.last != "" { // only origin has the tag
				run(t, dir, "git", "push", "--quiet", "origin", "HEAD:refs/tags/"+test.last)
			}
			write(t, dir, "CHANGELOG.md", cmp.Or(test.changes, "## v0.2.0\n"))
			write(t, dir, "README.md", strings.ReplaceAll(read(t, dir, "README.md"), noRelease, ""))
			replace(t, dir, "README.md", test.readme[0], test.readme[1])
			replace(t, dir, "hack/test.sh", "part_vuln() {", "part_vuln() { "+cmp.Or(test.vuln, "return 0")+"; return 0;")
			write(t, dir, ".ci/run", "#!/usr/bin/env bash\nexec hack/test.sh vuln\n")
			run(t, dir, "git", "commit", "--quiet", "--all", "--message=Prepare")
			commit := run(t, dir, "git", "rev-parse", "HEAD")
			if test.behind {
				commit += "~"
			}
			run(t, dir, "git", "push", "--quiet", "origin", commit+":refs/heads/main")
			if test.newFile {
				write(t, dir, "new.txt", "")
			}

			output, err := try(t, dir, "hack/release.sh", strings.Fields(cmp.Or(test.args, "v0.2.0"))...)
			assert.Contains(t, output, test.says)
			assert.Equal(t, test.fails, err != nil, output)
			var tagged string
			if strings.HasPrefix(test.says, "Tagged") {
				tagged = "tag refs/tags/v0.2.0" // an annotated tag
			}
			assert.Equal(t, tagged, run(t, dir, "git", "for-each-ref", "--contains="+commit, "--format=%(objecttype) %(refname)", "refs/tags"))
		})
	}
}

// hack/verify-api.sh fails when api.txt isn't current, when the CRD lacks a field of the last tag, and
// when the module lacks a name of the last tag that CHANGELOG.md doesn't list as breaking.
func TestVerifyAPI(t *testing.T) {
	const crd = "apis/openchoreo/crds/openchoreo.dev_dataplanes.yaml"
	dir := clone(t)

	write(t, dir, "helpers/unlisted.go", "package helpers\n\nfunc Unlisted() {}\n")
	output, err := try(t, dir, "hack/verify-api.sh")
	require.Error(t, err)
	assert.Contains(t, output, "+\tfunc Unlisted()")
	require.NoError(t, os.Remove(filepath.Join(dir, "helpers/unlisted.go")))

	write(t, dir, "helpers/removed.go", "package helpers\n\nfunc Removed() {}\n")
	write(t, dir, "helpers/remote/removed.go", "package remote\n\nfunc (*Cluster) Removed() {}\n")
	replace(t, dir, crd, "\n              gateway:", "\n              removed:\n                type: string\n              gateway:")
	run(t, dir, "git", "add", "--all")
	run(t, dir, "git", "commit", "--quiet", "--message=Release")
	run(t, dir, "git", "tag", "v0.1.0")
	run(t, dir, "git", "revert", "--no-edit", "HEAD")

	const named = "## Unreleased\n### Breaking\n- `remote.Cluster.Removed`\n- `helpers.Removed`\n## v0.1.0\n"
	write(t, dir, "CHANGELOG.md", named)
	output, err = try(t, dir, "hack/verify-api.sh")
	require.Error(t, err)
	assert.Contains(t, output, "spec.removed: removed")
	run(t, dir, "git", "checkout", "--quiet", "v0.1.0", "--", crd)

	write(t, dir, "CHANGELOG.md", strings.Join([]string{
		"## Unreleased",
		"### Breaking", "- `remote.Cluster.Removed`", "- `helpers.RemovedToo`",
		"### Removed", "- `helpers.Removed`",
		"## v0.1.0",
		"### Breaking", "- `helpers.Removed`",
	}, "\n"))
	output, err = try(t, dir, "hack/verify-api.sh")
	require.Error(t, err)
	assert.Contains(t, output, "(*Cluster).Removed: removed")
	assert.NotContains(t, output, "Name `remote.Cluster.Removed`")
	assert.Contains(t, output, "Name `helpers.Removed` in a section", "no section Breaking since v0.1.0 names it")

	write(t, dir, "CHANGELOG.md", named)
	output, err = try(t, dir, "hack/verify-api.sh")
	assert.NoError(t, err, output)
}

// clone returns a repository with the last commit, without tags, to commit and tag in. The user's git
// configuration has no effect there.
func clone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, root, "git", "clone", "--quiet", "--no-tags", "--no-checkout", "--origin=origin", "--template=",
		"--config=maintenance.auto=false", "--config=core.excludesFile=", "--config=core.attributesFile=", ".", dir)
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	for _, name := range []string{"GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"} {
		t.Setenv(name, "test")
	}
	run(t, dir, "git", "remote", "remove", "origin") // so that nothing can be pushed
	run(t, dir, "git", "reset", "--quiet", "--hard")
	return dir
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

func replace(t *testing.T, dir, name, old, replacement string) {
	t.Helper()
	content := read(t, dir, name)
	require.Contains(t, content, old)
	write(t, dir, name, strings.Replace(content, old, replacement, 1))
}

// try runs a script of dir and returns its output.
func try(t *testing.T, dir, script string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, script), args...)
	cmd.Dir = dir
	output, err := cmd.CombinedOutput()
	return string(output), err
}
