// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// kind is how long a request is open.
type kind int

const (
	unary   kind = iota // until its response has ended
	watch               // until either side ends it; informers resume it
	lasting             // until either side ends it: a followed log, or a stream to a container, port or service
)

// kindOf tells the kind of a request to a server whose URL has the path basePath, and
// whether it is a watch that begins with all objects.
func kindOf(req *http.Request, basePath string) (_ kind, initial bool) {
	parts := strings.Split(strings.Trim(strings.TrimPrefix(req.URL.Path, basePath), "/"), "/")
	// Paths begin with /api/VERSION or /apis/GROUP/VERSION, and go on with the resource and
	// the name, which namespaces/NAMESPACE may precede.
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		parts = nil
	}
	subresource := ""
	switch {
	case len(parts) > 4 && parts[0] == "namespaces":
		subresource = parts[4]
	case len(parts) > 2 && parts[0] != "namespaces":
		subresource = parts[2]
	}
	query := req.URL.Query()
	switch {
	case req.Header.Get("Upgrade") != "":
		return lasting, false
	case subresource == "exec", subresource == "attach", subresource == "portforward", subresource == "proxy",
		subresource == "log" && isTrue(query, "follow"):
		return lasting, false
	case req.Method == http.MethodGet && parts != nil && (parts[0] == "watch" || isTrue(query, "watch")):
		return watch, isTrue(query, "sendInitialEvents")
	}
	return unary, false
}

// isTrue reads a parameter as API servers do.
func isTrue(query url.Values, name string) (value bool) {
	values := query[name]
	return runtime.Convert_Slice_string_To_bool(&values, &value, nil) == nil && value
}
