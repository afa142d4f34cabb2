// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package serverurl

import (
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// Canonical returns a new URL that is the same for all spellings of an address: without the
// default port, a trailing slash, dots in the path, and the parts that client-go drops. Names are
// not resolved, and a final dot stays: without it, a resolver may append a search domain.
func Canonical(server *url.URL) *url.URL {
	host := strings.ToLower(server.Hostname())
	if ip, err := netip.ParseAddr(server.Hostname()); err == nil { // the case of a zone matters
		host = ip.Unmap().String()
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := server.Port(); port != "" && port != map[string]string{"https": "443", "http": "80"}[server.Scheme] {
		host += ":" + port
	}
	canonical := &url.URL{Scheme: server.Scheme, Host: host}
	if clean := path.Clean("/" + server.Path); clean != "/" {
		canonical.Path = clean
	}
	return canonical
}
