// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package requestinfo determines how long the answer to a request lasts, by the paths and
// parameters of the Kubernetes API, see
// https://kubernetes.io/docs/reference/using-api/api-concepts/.
//
//	info := requestinfo.Of(req, "/base/path")
//	if info.Lifetime == requestinfo.Watch {
package requestinfo

import (
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// Lifetime is how long the answer to a request lasts.
type Lifetime int

const (
	// Unary is a request with one answer.
	Unary Lifetime = iota
	// Watch lasts until either side ends it; informers resume it.
	Watch
	// Stream lasts until either side ends it, and can't be resumed: a followed log, or a
	// connection to a container, port or service.
	Stream
)

// Info describes a request.
type Info struct {
	Lifetime Lifetime
	// Log is true for the log of a container, followed or not.
	Log bool
	// InitialEvents is true for a watch that begins with all objects.
	InitialEvents bool
	// Bookmarks is true for a watch that allows bookmarks. Without them, nothing marks the end of
	// its initial events.
	Bookmarks bool
}

// Of describes a request to an API server whose URL has the path basePath.
func Of(req *http.Request, basePath string) Info {
	resource, subresource := split(strings.TrimPrefix(req.URL.Path, strings.TrimRight(basePath, "/")))
	query, log := req.URL.Query(), subresource == "log"
	switch {
	case req.Header.Get("Upgrade") != "":
		return Info{Lifetime: Stream}
	case subresource == "exec", subresource == "attach", subresource == "portforward", subresource == "proxy",
		log && isTrue(query, "follow"):
		return Info{Lifetime: Stream, Log: log}
	case req.Method == http.MethodGet && (resource == "watch" || resource != "" && isTrue(query, "watch")):
		return Info{Lifetime: Watch, InitialEvents: isTrue(query, "sendInitialEvents"), Bookmarks: isTrue(query, "allowWatchBookmarks")}
	}
	return Info{Log: log}
}

// split returns the resource of a path and its subresource, or "". Paths begin with
// /api/VERSION or /apis/GROUP/VERSION. The resource and a name follow, after an optional
// namespaces/NAMESPACE. In the old paths of watches, "watch" stands in the resource's place.
func split(path string) (resource, subresource string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return "", ""
	}
	switch {
	case len(parts) > 4 && parts[0] == "namespaces":
		subresource = parts[4]
	case len(parts) > 2 && parts[0] != "namespaces":
		subresource = parts[2]
	}
	return parts[0], subresource
}

// isTrue reads a parameter as API servers do.
func isTrue(query url.Values, name string) (value bool) {
	values := query[name]
	return runtime.Convert_Slice_string_To_bool(&values, &value, nil) == nil && value
}
